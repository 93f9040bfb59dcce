//! Seeded random schedules: situations, faults and their order all come from the seed; at rest the oracles of
//! docs/tests.md judge. A failing seed is printed and repeats: `SEED=17 cargo test -p sync random_schedules`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use sync::{Content, NaturalKey, Part, Settings};

use crate::model::Model;
use crate::partner::Fault;
use crate::sim_store::{SimStore, Snapshot};
use crate::world::{Action, Poison, SimEvent, World, epoch_seconds};

const KEY_FIELD: &str = "email";

/// splitmix64 again, for the choices of the schedule.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

pub(crate) fn part(street: &str) -> Part {
    Part {
        part_type: "address".into(),
        fields: [("street".to_owned(), street.to_owned())].into(),
    }
}

pub(crate) fn content(name: &str, email: &str, parts: &[&str]) -> Content {
    let fields = [
        ("name".to_owned(), Some(name.to_owned())),
        (KEY_FIELD.to_owned(), Some(email.to_owned())),
    ];
    Content {
        fields: fields.into(),
        parts: if parts.is_empty() {
            BTreeMap::new()
        } else {
            [(
                "address".to_owned(),
                parts.iter().map(|street| part(street)).collect(),
            )]
            .into()
        },
        keys: vec![NaturalKey(format!("email|{email}"))],
        ..Content::default()
    }
}

pub(crate) fn event(id: &str, record: usize, seconds: u64, content: Content) -> SimEvent {
    SimEvent {
        id: id.into(),
        record,
        version: Some(epoch_seconds() - 1000 + seconds),
        tombstone: false,
        content,
        poison: None,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    pub(crate) events: Vec<SimEvent>,
    pub(crate) refuses: Vec<String>,
    /// A record that stood at the partner before: its name and parts.
    pub(crate) theirs: Vec<(String, String, Vec<Part>)>,
    /// Two links may own one key, or the partner has two records: a conflict is the right end.
    pub(crate) conflict_is_right: bool,
    /// Somebody makes a record with this key while ours is on its way.
    pub(crate) somebody_races: Option<(String, String)>,
}

fn situation(dice: &mut Dice) -> Situation {
    let mail = "a@x";
    let simple = |n: u64| -> Vec<SimEvent> {
        (1..=n)
            .map(|v| event(&format!("v{v}"), 0, v, content(&format!("n{v}"), mail, &[])))
            .collect()
    };
    let mut it = Situation {
        name: "plain",
        events: simple(3),
        refuses: Vec::new(),
        theirs: Vec::new(),
        conflict_is_right: false,
        somebody_races: None,
    };
    match dice.roll(16) {
        0 => {}
        1 => {
            it.name = "burst";
            it.events = simple(6);
        }
        2 => {
            it.name = "delete";
            it.events = simple(2);
            it.events.push(SimEvent {
                tombstone: true,
                ..event("del", 0, 3, Content::default())
            });
        }
        3 => {
            it.name = "recreate";
            it.events = simple(1);
            it.events.push(SimEvent {
                tombstone: true,
                ..event("del", 0, 2, Content::default())
            });
            it.events
                .push(event("again", 0, 3, content("n3", mail, &[])));
        }
        4 => {
            it.name = "tie";
            it.events = simple(1);
            it.events
                .push(event("va", 0, 2, content("tie-a", mail, &[])));
            it.events
                .push(event("vb", 0, 2, content("tie-b", mail, &[])));
            if dice.one_in(2) {
                it.events.push(SimEvent {
                    tombstone: true,
                    ..event("vd", 0, 2, Content::default())
                });
            }
        }
        5 => {
            it.name = "newest refused";
            it.refuses = vec!["n3".into()];
        }
        6 => {
            it.name = "middle refused";
            it.refuses = vec!["n2".into()];
        }
        7 => {
            it.name = "poison";
            let poison = [Poison::AtClaim, Poison::BeforeCall, Poison::AtAnswer]
                [usize::try_from(dice.roll(3)).expect("small")];
            let which = usize::try_from(dice.roll(3)).expect("small");
            it.events[which].poison = Some(poison);
            if dice.one_in(3) {
                it.events.push(SimEvent {
                    poison: Some(poison),
                    ..event("v4", 0, 4, content("n4", mail, &[]))
                });
            }
        }
        8 => {
            it.name = "future";
            it.events
                .push(event("far", 0, 1_000_000, content("far", mail, &[])));
        }
        9 => {
            it.name = "no time";
            for event in &mut it.events {
                event.version = None;
            }
        }
        10 => {
            it.name = "back and forth";
            it.events[2].content = it.events[0].content.clone();
        }
        11 => {
            it.name = "twins";
            it.events
                .push(event("t1", 1, 1, content("twin", mail, &[])));
            it.events
                .push(event("t2", 1, 2, content("twin2", mail, &[])));
            it.conflict_is_right = true;
        }
        12 => {
            it.name = "people's record";
            it.theirs
                .push(("somebody".into(), mail.into(), vec![part("A")]));
            it.events[1].content = content("n2", mail, &["A", "B"]);
            it.events[2].content = content("n3", mail, &["B", "C"]);
            if dice.one_in(4) {
                it.theirs.push(("double".into(), mail.into(), Vec::new()));
                it.conflict_is_right = true;
            }
        }
        14 => {
            it.name = "somebody races";
            it.somebody_races = Some(("somebody".into(), mail.into()));
            it.conflict_is_right = true;
        }
        13 => {
            it.name = "parts";
            it.events[0].content = content("n1", mail, &["A", "B", "C"]);
            it.events[1].content = content("n2", mail, &["B", "C", "C"]);
            it.events[2].content = content("n3", mail, &["A", "D", "B"]);
            if dice.one_in(3) {
                it.refuses = vec!["D".into()];
            }
        }
        _ => {
            it.name = "two records";
            it.events
                .push(event("o1", 1, 1, content("other1", "b@x", &["A"])));
            it.events
                .push(event("o2", 1, 2, content("other2", "b@x", &["A", "B"])));
            it.events.push(SimEvent {
                poison: dice.one_in(2).then_some(Poison::BeforeCall),
                ..event("o3", 1, 3, content("other3", "b@x", &["B"]))
            });
        }
    }
    it
}

struct Budget {
    crashes: u64,
    freezes: u64,
    closures: u64,
    duplicates: u64,
    replays: u64,
    releases: u64,
    renewals: u64,
    /// Twice, at both looks, would be a conflict by right.
    saves: u64,
}

/// One seed: what happened, or why it is wrong.
pub(crate) async fn run<S: SimStore + 'static>(
    store: S,
    seed: u64,
) -> Result<&'static str, String> {
    let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let situation = situation(&mut dice);
    let settings = Settings {
        send_window: Duration::from_secs(5),
        ..Settings::default()
    };
    let processes = 2 + usize::try_from(dice.roll(2)).expect("small");
    let mut world = World::new(store, situation.events.clone(), processes, seed, settings).await;
    let mut budget = Budget {
        crashes: dice.roll(4),
        freezes: dice.roll(3),
        closures: dice.roll(3),
        duplicates: dice.roll(4),
        replays: dice.roll(4),
        releases: dice.roll(3),
        renewals: dice.roll(2),
        saves: dice.roll(2),
    };
    let calm = budget.crashes + budget.freezes + budget.closures + budget.renewals == 0;
    {
        let mut state = world.lock();
        let now = state.now;
        state.partner.lag = i64::try_from(dice.roll(3) * 5).expect("small");
        state.partner.hides = dice.one_in(2);
        // Not with parts: one that is not shown for the lag of a call that we gave up is still taken for one that is gone.
        let events = &situation.events;
        let parts = events.iter().any(|event| !event.content.parts.is_empty());
        state.partner.shows_late = !state.partner.hides && !parts && dice.one_in(2);
        state.partner.names_parts = dice.one_in(2);
        state.partner.shows_record = dice.one_in(2);
        state.partner.refuses = situation.refuses.clone();
        state.look_faults = u32::try_from(dice.roll(3)).expect("small");
        for _ in 0..dice.roll(8) {
            let fault = match dice.roll(5) {
                0 => Fault::Slow,
                1 => Fault::Lost,
                2 => Fault::Error,
                3 => Fault::Late(i64::try_from(dice.roll(50)).expect("small")),
                _ => Fault::Refused,
            };
            state.faults.push_back(fault);
        }
        for (name, mail, parts) in &situation.theirs {
            let fields = content(name, mail, &[]).fields;
            state
                .partner
                .person_adds(fields, parts.clone(), now - TimeDelta::seconds(60));
        }
    }
    let mut racer = situation.somebody_races.clone();
    let mut unpublished: Vec<usize> = (0..situation.events.len()).collect();
    for _ in 0..3000 {
        // Publish, break, repair: a few of the steps. The rest goes on by itself.
        match dice.roll(40) {
            0..6 if !unpublished.is_empty() => {
                let at = usize::try_from(dice.roll(unpublished.len() as u64)).expect("small");
                world.publish(unpublished.remove(at));
                continue;
            }
            6 if budget.duplicates > 0 => {
                let published: Vec<usize> = (0..situation.events.len())
                    .filter(|index| !unpublished.contains(index))
                    .collect();
                if !published.is_empty() {
                    budget.duplicates -= 1;
                    world.publish(
                        published
                            [usize::try_from(dice.roll(published.len() as u64)).expect("small")],
                    );
                }
                continue;
            }
            7 if budget.crashes > 0 && world.unacked() > 0 => {
                budget.crashes -= 1;
                world.crash(usize::try_from(dice.roll(processes as u64)).expect("small"));
                continue;
            }
            8 if budget.freezes > 0 && world.unacked() > 0 => {
                budget.freezes -= 1;
                let seconds = 20 + i64::try_from(dice.roll(180)).expect("small");
                world.freeze(
                    usize::try_from(dice.roll(processes as u64)).expect("small"),
                    seconds,
                );
                continue;
            }
            9 if budget.closures > 0 && world.unacked() > 0 => {
                budget.closures -= 1;
                world.close_channel(usize::try_from(dice.roll(processes as u64)).expect("small"));
                continue;
            }
            10 if budget.renewals > 0 && world.unacked() > 0 => {
                budget.renewals -= 1;
                world.fail_renewals(
                    usize::try_from(dice.roll(processes as u64)).expect("small"),
                    60,
                );
                continue;
            }
            11 if budget.replays > 0 => {
                let snapshot = world.store.snapshot().await;
                if let Some(dead) = snapshot
                    .dead
                    .iter()
                    .find(|dead| dead.state == "open" && dead.class != "future_version")
                {
                    budget.replays -= 1;
                    world.store.replay(dead.id).await;
                }
                continue;
            }
            12 if budget.releases > 0 => {
                let snapshot = world.store.snapshot().await;
                if let Some(held) = snapshot.held.first() {
                    budget.releases -= 1;
                    world
                        .store
                        .release_held(crate::world::SOURCE.into(), held.event_id.clone())
                        .await;
                }
                continue;
            }
            13 => {
                world.janitor().await;
            }
            15 if budget.saves > 0 => {
                // Ours, and made for certain: one look after the settle time is all that a create is given.
                let linked = world.store.snapshot().await.links;
                let id = linked
                    .iter()
                    .filter(|link| !link.open)
                    .find_map(|link| link.row.target_id.clone());
                if let Some(id) = id {
                    budget.saves -= 1;
                    let mut state = world.lock();
                    let now = state.now;
                    state.partner.person_saves(&id, now);
                }
            }
            14 => {
                if let Some((name, mail)) = racer.take_if(|_| world.unacked() > 0) {
                    let mut state = world.lock();
                    let now = state.now;
                    state
                        .partner
                        .person_adds(content(&name, &mail, &[]).fields, Vec::new(), now);
                }
            }
            _ => {}
        }
        let actions = world.actions();
        if actions.is_empty() {
            if unpublished.is_empty() {
                break;
            }
            continue;
        }
        // Time is one action among many, but a rarer one while work can be done.
        let ready: Vec<&Action> = actions
            .iter()
            .filter(|action| **action != Action::Advance)
            .collect();
        let advance = ready.is_empty() || (actions.len() > ready.len() && dice.one_in(6));
        let action = if advance {
            Action::Advance
        } else {
            (*ready[usize::try_from(dice.roll(ready.len() as u64)).expect("small")]).clone()
        };
        world.act(&action).await;
    }
    for index in unpublished.drain(..) {
        world.publish(index);
    }
    world.rest().await;
    let snapshot = world.store.snapshot().await;
    let judged = judge(&world, &snapshot, &situation, calm);
    judged.map(|()| situation.name).map_err(|wrong| {
        let log = world.lock().log.join("\n");
        format!(
            "seed {seed}, situation '{}': {wrong}\n{log}\n{snapshot:#?}",
            situation.name
        )
    })
}

/// Version, tombstone, event id, generation.
type Rank<'a> = (u64, bool, &'a str, u32);

/// The oracles I1 to I7, I9 and I10.
fn judge<S: SimStore + 'static>(
    world: &World<S>,
    snapshot: &Snapshot,
    situation: &Situation,
    calm: bool,
) -> Result<(), String> {
    if !world.idle() {
        return Err("I5: not at rest".into());
    }
    let state = world.lock();
    if let Some(dead) = snapshot.dead.iter().find(|dead| dead.class == "exhausted") {
        return Err(format!("I6: {} died of waiting", dead.event_id));
    }
    for (event, kills) in &state.kills {
        // A release begins to count again.
        if *kills > 3 * 4 {
            return Err(format!("I10: {event} killed {kills} processes"));
        }
    }
    for held in &snapshot.held {
        let poison = state
            .events
            .iter()
            .any(|event| event.id == held.event_id && event.poison.is_some());
        if held.reason == "poison" && !poison && calm && state.kills.is_empty() {
            return Err(format!(
                "I10: {} is held as poison and killed nothing",
                held.event_id
            ));
        }
        if held.reason != "poison" && held.reason != "conflict" {
            return Err(format!(
                "I5: {} is held for {} without a cause",
                held.event_id, held.reason
            ));
        }
    }
    let records: std::collections::BTreeSet<usize> =
        state.events.iter().map(|event| event.record).collect();
    for record in records {
        let link = snapshot
            .links
            .iter()
            .find(|link| link.row.source_id == format!("r{record}"));
        let conflict = link.is_some_and(|link| link.row.state == "conflict");
        if conflict && !situation.conflict_is_right {
            return Err(format!("I7: needless conflict of r{record}"));
        }
        let applied = link.and_then(|link| link.row.applied_k.clone());
        // By the fields, not by the bytes of the key: the oracle must not share a mistake with the engine.
        let mut newest: Option<(Rank<'_>, usize)> = None;
        let mut gone_above = Vec::new();
        for (index, event) in state
            .events
            .iter()
            .enumerate()
            .filter(|(_, event)| event.record == record)
        {
            let dead = snapshot.dead.iter().find(|dead| dead.event_id == event.id);
            let held = snapshot.held.iter().any(|held| held.event_id == event.id);
            let open = dead.is_some_and(|dead| dead.state == "open");
            if dead.is_some_and(|dead| dead.state == "replaying") {
                return Err(format!("I4: the replay of {} has no outcome", event.id));
            }
            let generation = dead.map_or(0, |dead| dead.generation);
            let Some(k) = state.key(index, generation) else {
                return Err(format!("I4: {} was never received", event.id));
            };
            if open || held {
                gone_above.push((k, index));
                continue;
            }
            let future = event
                .version
                .is_some_and(|version| version > epoch_seconds() + 100_000);
            let first = state.key(index, 0).expect("has a version");
            let covered = applied
                .as_ref()
                .is_some_and(|applied| first <= *applied || k <= *applied);
            if !covered && !conflict && !future {
                return Err(format!(
                    "I4: {} ({k}) is neither applied nor covered, dead nor held; applied {applied:?}",
                    event.id
                ));
            }
            let version = k.version().parse::<u64>().expect("digits");
            let rank = (version, event.tombstone, event.id.as_str(), generation);
            if !future && newest.as_ref().is_none_or(|(best, _)| rank > *best) {
                newest = Some((rank, index));
            }
        }
        if conflict {
            continue;
        }
        let link = match link {
            Some(link) => link,
            None if newest.is_none() => continue,
            None => return Err(format!("I1: r{record} has no link")),
        };
        if link.open {
            return Err(format!("I5: r{record} has an open effect at rest"));
        }
        let Some((_, index)) = newest else { continue };
        let wanted = &state.events[index];
        let mail = situation
            .events
            .iter()
            .find(|event| event.record == record && !event.tombstone)
            .and_then(|event| event.content.fields[KEY_FIELD].clone());
        let live: Vec<_> = state
            .partner
            .records
            .iter()
            .filter(|stored| {
                !stored.removed && stored.record.fields.get(KEY_FIELD) == mail.as_ref()
            })
            .collect();
        // Who makes a record while ours is on its way makes a second one that only the daily scan can see; ours are never two.
        let races = situation.somebody_races.is_some();
        if live
            .iter()
            .filter(|stored| !races || !stored.theirs)
            .count()
            > 1
        {
            return Err(format!(
                "I1/I3: {} records carry the key of r{record}",
                live.len()
            ));
        }
        if wanted.tombstone {
            if link.row.state != "deleted" || link.row.target_id.is_some() {
                return Err(format!("I1: r{record} is alive after its delete"));
            }
            continue;
        }
        let linked = |stored: &&&crate::partner::Stored| {
            !races || link.row.target_id.as_deref() == Some(stored.record.id.as_str())
        };
        let Some(stored) = live.iter().find(linked) else {
            return Err(format!("I1: r{record} has no record at the partner"));
        };
        if link.row.target_id.as_deref() != Some(stored.record.id.as_str()) {
            return Err(format!(
                "I1: r{record} is linked to {:?}, the record is {}",
                link.row.target_id, stored.record.id
            ));
        }
        // Half a version stays only with its dead letter or held row in sight (V27).
        let half = gone_above.iter().any(|(k, _)| {
            link.row
                .applied_k
                .as_ref()
                .is_some_and(|applied| k > applied)
        });
        let half_of = |name: &str| {
            gone_above.iter().any(|(_, index)| {
                state.events[*index].content.fields.get(name)
                    == Some(&stored.record.fields.get(name).cloned())
            })
        };
        for (name, value) in &wanted.content.fields {
            let shown = stored.record.fields.get(name);
            if shown != value.as_ref() && !(half && half_of(name)) {
                return Err(format!(
                    "I2: r{record} shows {name} = {shown:?}, the newest living event {} says {value:?}",
                    wanted.id
                ));
            }
        }
        for (_, their_mail, parts) in &situation.theirs {
            let ours = Some(their_mail) == mail.as_ref();
            let stands = |part: &Part| stored.record.parts.iter().any(|shown| shown.part == *part);
            if let Some(part) = parts
                .iter()
                .find(|part| ours && stored.theirs && !stands(part))
            {
                return Err(format!(
                    "a part that somebody else made was overwritten: {part:?}"
                ));
            }
        }
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for shown in &stored.record.parts {
            *count.entry(shown.part.signature()).or_default() += 1;
        }
        if let Some((signature, n)) = count.iter().find(|(_, n)| **n > 1) {
            return Err(format!("I9: part {signature} stands {n} times"));
        }
        for part in wanted.content.parts.values().flatten() {
            if !count.contains_key(&part.signature()) && !half {
                return Err(format!("I9: a part of {} is missing", wanted.id));
            }
        }
    }
    Ok(())
}

fn seeds(variable: &str, default: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(seed) => seed..seed + 1,
        None => {
            0..std::env::var(variable)
                .ok()
                .and_then(|count| count.parse().ok())
                .unwrap_or(default)
        }
    }
}

fn lease(seed: u64) -> Duration {
    // A lease shorter than a call must be as safe: only slower.
    Duration::from_secs(if seed.is_multiple_of(4) { 4 } else { 30 })
}

fn report(results: Vec<Result<&'static str, String>>) {
    let wrong: Vec<&String> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} seeds are wrong; the first:\n{}",
        wrong.len(),
        results.len(),
        wrong[0]
    );
}

/// A panic inside a seed (an assertion of the pair, no rest) names its seed too.
async fn guarded<S: SimStore + 'static>(store: S, seed: u64) -> Result<&'static str, String> {
    use futures_util::FutureExt as _;
    let run = std::panic::AssertUnwindSafe(run(store, seed))
        .catch_unwind()
        .await;
    run.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("seed {seed}: {}", text.unwrap_or_default()))
    })
}

#[test]
fn random_schedules() {
    let range = seeds("SEEDS", 3_000);
    let threads = 2;
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let range = range.clone();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .build()
                        .expect("a runtime");
                    let mine = range.filter(|seed| seed % threads == thread);
                    let mut results = Vec::new();
                    for seed in mine {
                        let result = runtime.block_on(guarded(Model::new(lease(seed)), seed));
                        let stop = result.is_err();
                        results.push(result);
                        if stop {
                            break;
                        }
                    }
                    results
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker"))
            .collect()
    });
    report(results);
}

#[tokio::test]
async fn random_schedules_on_postgres() {
    let database = testkit::database().await;
    let store = crate::postgres::Postgres::connect(database.url(), Duration::from_secs(30)).await;
    let mut results = Vec::new();
    for seed in seeds("SQL_SEEDS", 100) {
        store.empty().await;
        let pair = crate::sim_store::Both {
            left: store.with_lease(lease(seed)),
            right: Model::new(lease(seed)),
        };
        let result = guarded(pair, seed).await;
        let stop = result.is_err();
        results.push(result);
        if stop {
            break;
        }
    }
    report(results);
}
