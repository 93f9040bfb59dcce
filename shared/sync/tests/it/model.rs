//! The SQL functions of migrations/functions, written a second time in plain Rust: the reference that Postgres is compared
//! with step by step, and what ten thousand schedules run on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use event::OrderKey;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use serde_json::json;
use store::links::{
    ClaimItem, ClaimVerdict, Completed, Completion, ConflictCause, DeadItem, EffectRow, End,
    Finish, Finished, Granted, HeldItem, HeldVerdict, KeyTaken, LinkRow, LinkSnapshot, Recorded,
    Reservation, Reserved, Resolution, Resolved, dead_id,
};
use sync::Ledger;
use uuid::Uuid;

use crate::sim_store::{
    DeadRow, EffectView, HeldRow, LinkView, OutRow, SimStore, Snapshot, WORKER,
};

const KEPT_LIMIT: usize = 16;

#[derive(Clone, Debug)]
struct Claim {
    event: String,
    source: String,
    token: Uuid,
}

#[derive(Clone, Debug)]
struct MLink {
    row: LinkRow,
    claim: Option<Claim>,
    recheck_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
}

#[derive(Clone, Debug)]
struct MEffect {
    row: EffectRow,
    resolved_at: Option<DateTime<Utc>>,
    late: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    generation: u32,
    body: Vec<u8>,
}

#[derive(Clone, Debug)]
struct MHeld {
    link: Option<i64>,
    coalesces: bool,
    k: Option<OrderKey>,
    reason: String,
    item: HeldItem,
}

#[derive(Clone, Debug)]
struct MDead {
    state: &'static str,
    generation: u32,
    link: Option<i64>,
    k: Option<OrderKey>,
    class: String,
    last_at: DateTime<Utc>,
    resolved_at: Option<DateTime<Utc>>,
    partly: Vec<String>,
    item: DeadItem,
}

#[derive(Default)]
struct State {
    now: DateTime<Utc>,
    lease: Duration,
    links: Vec<MLink>,
    effects: Vec<MEffect>,
    kept: BTreeMap<(i64, OrderKey), Kept>,
    kept_out: BTreeMap<(i64, OrderKey), Kept>,
    keys: BTreeMap<String, i64>,
    unsettled: BTreeMap<Uuid, (i64, String, String)>,
    held: Vec<MHeld>,
    dead: BTreeMap<Uuid, MDead>,
    deaths: BTreeSet<(Uuid, u32, u32, DateTime<Utc>)>,
    outbox: Vec<OutRow>,
}

#[derive(Clone)]
pub(crate) struct Model(Arc<Mutex<State>>);

impl Model {
    pub(crate) fn new(lease: Duration) -> Self {
        Self(Arc::new(Mutex::new(State {
            lease,
            ..State::default()
        })))
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.0.lock().expect("one thread"))
    }
}

impl MLink {
    fn settle_conflict(&mut self) {
        self.row.state = if self.row.target_id.is_some() {
            "linked"
        } else {
            "pending"
        }
        .into();
        self.row.conflict_cause = None;
        self.last_error = None;
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(duration.as_millis()).expect("small"))
}

impl State {
    /// A person says that the conflict of this link is settled.
    fn settled_by_hand(&mut self, id: i64) {
        let now = self.now;
        if self.link(id).row.state != "conflict" {
            return;
        }
        if self.link(id).row.conflict_cause.as_deref() == Some("unclear_create") {
            let open = self
                .open(id)
                .filter(|open| open.settle_at.is_some_and(|settle_at| settle_at <= now));
            if let Some(effect) = open.and_then(|open| self.effect(open.id)) {
                effect.row.state = "abandoned".into();
                effect.resolved_at = Some(now);
            }
        }
        let link = self.link(id);
        link.settle_conflict();
        link.row.missing_since = None;
    }

    fn link(&mut self, id: i64) -> &mut MLink {
        &mut self.links[usize::try_from(id - 1).expect("ids count from 1")]
    }

    fn open(&self, link: i64) -> Option<EffectRow> {
        let open = |effect: &&MEffect| {
            effect.row.link_id == link && matches!(effect.row.state.as_str(), "sent" | "unknown")
        };
        self.effects
            .iter()
            .find(open)
            .map(|effect| effect.row.clone())
    }

    fn effect(&mut self, id: Uuid) -> Option<&mut MEffect> {
        self.effects.iter_mut().find(|effect| effect.row.id == id)
    }

    fn find_link(&mut self, item: &store::links::LinkKey) -> i64 {
        if let Some(found) = self.links.iter().find(|link| {
            link.row.source_id == item.source_id && link.row.connection_id == item.connection_id
        }) {
            return found.row.id;
        }
        let id = i64::try_from(self.links.len()).expect("small") + 1;
        self.links.push(MLink {
            row: LinkRow {
                id,
                tenant: item.tenant.clone(),
                kind: item.kind.clone(),
                source_system: item.source_system.clone(),
                source_account: item.source_account.clone(),
                source_id: item.source_id.clone(),
                target_system: item.target_system.clone(),
                connection_id: item.connection_id,
                target_id: None,
                state: "pending".into(),
                desired_k: None,
                applied_k: None,
                base: json!({}),
                target_parts: json!({}),
                lease_token: None,
                lease_until: None,
                recheck_step: 0,
                former_target_id: None,
                written_at: None,
                missing_since: None,
                conflict_cause: None,
            },
            claim: None,
            recheck_at: None,
            last_error: None,
        });
        id
    }

    fn keep(&mut self, link: i64, k: OrderKey, kept: Kept) {
        self.kept.entry((link, k)).or_insert(kept);
        let count = self.kept.keys().filter(|(of, _)| *of == link).count();
        if count > KEPT_LIMIT {
            let lowest = self
                .kept
                .keys()
                .find(|(of, _)| *of == link)
                .cloned()
                .expect("counted");
            let out = self.kept.remove(&lowest).expect("found");
            self.kept_out.insert(lowest, out);
        }
    }

    fn fall_back(&mut self, link: i64, k: &OrderKey) {
        self.kept.remove(&(link, k.clone()));
        self.kept_out.remove(&(link, k.clone()));
        let row = self.link(link).row.clone();
        if row.desired_k.as_ref() > Some(k) {
            return;
        }
        let named = row.desired_k.as_ref() == Some(k);
        let older = |((of, key), kept): (&(i64, OrderKey), &Kept)| {
            (*of == link && row.applied_k.as_ref().is_none_or(|applied| key > applied) && key < k)
                .then(|| (key.clone(), kept.clone()))
        };
        let best = self
            .kept
            .iter()
            .chain(&self.kept_out)
            .filter_map(older)
            .max_by(|a, b| a.0.cmp(&b.0));
        let best_k = best.as_ref().map(|(key, _)| key.clone());
        self.link(link).row.desired_k = if named {
            best_k.or(row.applied_k.clone())
        } else {
            row.desired_k.clone().max(best_k)
        };
        if let Some((_, kept)) = best {
            self.outbox.push(OutRow {
                body: kept.body,
                generation: kept.generation,
            });
        } else if named && row.target_id.is_none() && self.open(link).is_none() {
            let fenced = self.link(link);
            fenced.row.lease_token = None;
            fenced.row.lease_until = None;
            self.keys.retain(|_, owner| *owner != link);
        }
    }

    fn close_covered(&mut self, link: i64, source: &str, event: &str) {
        let now = self.now;
        let applied = self.link(link).row.applied_k.clone();
        let covered = |k: &OrderKey| applied.as_ref().is_some_and(|applied| k <= applied);
        self.kept.retain(|(of, k), _| *of != link || !covered(k));
        self.kept_out
            .retain(|(of, k), _| *of != link || !covered(k));
        for dead in self.dead.values_mut() {
            let own = dead.item.source.as_deref() == Some(source)
                && dead.item.event_id.as_deref() == Some(event);
            let closes =
                matches!(dead.state, "open" | "replaying") || (dead.state == "discarded" && own);
            if dead.link == Some(link) && closes && dead.k.as_ref().is_some_and(covered) {
                dead.state = if own { "resolved" } else { "overtaken" };
                dead.resolved_at = Some(now);
            }
        }
        self.held
            .retain(|held| held.link != Some(link) || !held.k.as_ref().is_some_and(covered));
        self.unsettled
            .retain(|_, (of, s, e)| !(*of == link && s == source && e == event));
    }

    fn give_back(&mut self, link: i64) {
        let link = self.link(link);
        link.row.lease_token = None;
        link.row.lease_until = None;
        link.claim = None;
    }

    fn close_replay(&mut self, id: Uuid, generation: u32, state: &'static str) {
        let now = self.now;
        if let Some(dead) = self
            .dead
            .get_mut(&id)
            .filter(|dead| dead.state == "replaying" && dead.generation == generation)
        {
            dead.state = state;
            dead.resolved_at = Some(now);
        }
    }

    fn claim(&mut self, items: &[ClaimItem], alone: bool) -> Vec<ClaimVerdict> {
        // Missing links are made in the order of their keys, and all are handled in the order of their ids.
        let mut keys: Vec<_> = items
            .iter()
            .filter_map(|item| item.link.as_ref().ok())
            .collect();
        keys.sort_by(|a, b| a.source_id.cmp(&b.source_id));
        for key in keys {
            self.find_link(key);
        }
        let ids: Vec<i64> = items
            .iter()
            .map(|item| match &item.link {
                Ok(key) => self.find_link(key),
                Err(id) => *id,
            })
            .collect();
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by(|a, b| ids[*a].cmp(&ids[*b]).then(items[*b].k.cmp(&items[*a].k)));
        let mut verdicts: Vec<Option<ClaimVerdict>> = vec![None; items.len()];
        for index in &order {
            verdicts[*index] = Some(self.claim_one(&items[*index], alone));
        }
        // Natural keys after all links, in one order.
        let mut wanted: Vec<(String, i64, usize)> = Vec::new();
        for (index, verdict) in verdicts.iter().enumerate() {
            if let Some(ClaimVerdict::Granted(granted)) = verdict {
                wanted.extend(
                    items[index]
                        .natural_keys
                        .iter()
                        .map(|key| (key.clone(), granted.link.id, index)),
                );
            }
        }
        wanted.sort();
        for (key, link, index) in wanted {
            let owner = *self.keys.entry(key.clone()).or_insert(link);
            if owner != link {
                let record = self.link(owner).row.source_id.clone();
                if let Some(ClaimVerdict::Granted(granted)) = &mut verdicts[index] {
                    granted.keys_taken.push(KeyTaken {
                        key,
                        link: owner,
                        record,
                    });
                }
            }
        }
        verdicts
            .into_iter()
            .map(|verdict| verdict.expect("all were claimed"))
            .collect()
    }

    fn claim_one(&mut self, item: &ClaimItem, alone: bool) -> ClaimVerdict {
        let now = self.now;
        let id = match &item.link {
            Ok(key) => self.find_link(key),
            Err(id) => *id,
        };
        let connection = item.link.as_ref().ok().map(|key| key.connection_id);
        let dead_id = dead_id(
            WORKER,
            &item.tenant,
            &item.source,
            &item.event_id,
            connection,
            item.facet,
        );
        let counted_as = item
            .claim_as
            .clone()
            .unwrap_or_else(|| item.event_id.clone());
        if let Some(k) = &item.k {
            if let Some(dead) = self.dead.get(&dead_id)
                && (item.generation < dead.generation
                    || (matches!(dead.state, "open" | "discarded")
                        && item.generation <= dead.generation))
            {
                return ClaimVerdict::Stale;
            }
            if let Some(dead) = self.dead.get_mut(&dead_id)
                && dead.state == "replaying"
                && dead.generation == item.generation
            {
                if dead.link.is_none() || dead.k.as_ref() != Some(k) {
                    dead.link = Some(id);
                }
                dead.k = Some(k.clone());
            }
            let same = |held: &MHeld| {
                held.item.source == item.source
                    && held.item.event_id == item.event_id
                    && held.item.generation == item.generation
            };
            if self.held.iter().any(same) {
                return ClaimVerdict::AlreadyHeld;
            }
            let row = self.link(id).row.clone();
            if row.applied_k.as_ref().is_some_and(|applied| k <= applied) {
                self.close_replay(dead_id, item.generation, "resolved");
                return ClaimVerdict::Duplicate;
            }
            if row.desired_k.as_ref().is_some_and(|desired| k < desired) {
                let kept = Kept {
                    generation: item.generation,
                    body: item.body.clone(),
                };
                self.keep(id, k.clone(), kept);
                self.close_replay(dead_id, item.generation, "overtaken");
                return ClaimVerdict::Superseded;
            }
        }
        let link = self.link(id).clone();
        let live =
            link.row.lease_token.is_some() && link.row.lease_until.is_some_and(|until| until > now);
        let own = link
            .claim
            .as_ref()
            .is_some_and(|claim| claim.event == counted_as && claim.source == item.source);
        let rows = self
            .unsettled
            .values()
            .filter(|(of, s, e)| *of == id && *s == item.source && *e == counted_as)
            .count();
        let count = rows + usize::from(own);
        if count >= 3 && !(own && live) {
            self.unsettled
                .retain(|_, (of, s, e)| !(*of == id && *s == item.source && *e == counted_as));
            let Some(k) = &item.k else {
                self.give_back(id);
                let link = self.link(id);
                link.row.state = "conflict".into();
                link.row.conflict_cause = Some("recheck_failed".into());
                link.recheck_at = None;
                return ClaimVerdict::Stale;
            };
            if own {
                self.link(id).claim = None;
            }
            self.close_replay(dead_id, item.generation, "resolved");
            let held = held_item(item, "poison");
            self.held.retain(|row| {
                row.coalesces
                    || !(row.item.source == item.source && row.item.event_id == item.event_id)
            });
            self.held.push(MHeld {
                link: Some(id),
                coalesces: false,
                k: Some(k.clone()),
                reason: "poison".into(),
                item: held,
            });
            self.fall_back(id, k);
            return ClaimVerdict::Held;
        }
        if let Some(k) = &item.k {
            self.link(id).row.desired_k = Some(k.clone());
        }
        let in_conflict = link.row.state == "conflict";
        let about = |cause: &str| in_conflict && link.row.conflict_cause.as_deref() == Some(cause);
        let mut wanted: Vec<&String> = item.natural_keys.iter().collect();
        wanted.sort();
        let of_another = |key: &&&String| self.keys.get(**key).is_some_and(|owner| *owner != id);
        let taken = wanted
            .iter()
            .find(of_another)
            .filter(|_| link.row.conflict_cause.as_deref() == Some("key_taken"))
            .map(|key| (*key).clone());
        let over = about("key_taken") && item.k.is_some() && taken.is_none();
        if over {
            let link = self.link(id);
            link.settle_conflict();
        }
        let looks = about("gone") && item.claim_as.as_deref() == Some("recheck");
        if in_conflict && !over && !looks {
            return match &item.k {
                Some(_) => ClaimVerdict::Conflict {
                    reason: link.last_error,
                    key: taken,
                },
                None => ClaimVerdict::Stale,
            };
        }
        if live {
            let left = link.row.lease_until.expect("live") - now;
            return ClaimVerdict::Busy {
                left: left.to_std().expect("live"),
            };
        }
        if count == 2 && !alone {
            return ClaimVerdict::Exclusive;
        }
        if let Some(claim) = &link.claim {
            self.unsettled.entry(claim.token).or_insert((
                id,
                claim.source.clone(),
                claim.event.clone(),
            ));
        }
        let until = now + delta(self.lease);
        let taken = self.link(id);
        taken.row.lease_token = Some(item.token);
        taken.row.lease_until = Some(until);
        taken.claim = Some(Claim {
            event: counted_as,
            source: item.source.clone(),
            token: item.token,
        });
        let row = taken.row.clone();
        let request = item.k.is_none();
        let unlinked = row.target_id.is_none();
        let abandoned_effects = |effect: &&MEffect| {
            let state = effect.row.state.as_str();
            let recent = effect
                .resolved_at
                .is_some_and(|at| at > now - TimeDelta::days(2));
            effect.row.link_id == id
                && matches!(state, "abandoned" | "failed")
                && effect.row.sent_at.is_some()
                && (recent || (unlinked && effect.row.operation == "create"))
        };
        let mut abandoned_effects: Vec<EffectRow> = self
            .effects
            .iter()
            .filter(abandoned_effects)
            .filter(|_| request || unlinked)
            .map(|effect| effect.row.clone())
            .collect();
        abandoned_effects.sort_by_key(|row| (row.sent_at, row.id));
        let sent_keys: Vec<String> = abandoned_effects
            .iter()
            .filter_map(|row| serde_json::from_value::<sync::Request>(row.request.clone()).ok())
            .flat_map(|request| request.keys)
            .map(|key| key.0)
            .collect();
        ClaimVerdict::Granted(Box::new(Granted {
            found_references: Vec::new(),
            earlier: None,
            link: row,
            open: self.open(id),
            now,
            keys_taken: Vec::new(),
            natural_keys: self
                .keys
                .iter()
                .filter(|(_, owner)| request && **owner == id)
                .map(|(key, _)| key.clone())
                .collect(),
            abandoned_effects,
            keys_of_others: self
                .keys
                .iter()
                .filter(|(key, owner)| **owner != id && sent_keys.contains(key))
                .map(|(key, _)| key.clone())
                .collect(),
        }))
    }

    fn reserve(&mut self, item: Reservation) -> Reserved {
        if self.link(item.link).row.lease_token != Some(item.token) {
            return Reserved::Lost;
        }
        if self.open(item.link).is_some() {
            return Reserved::Open;
        }
        let row = EffectRow {
            id: item.effect,
            link_id: item.link,
            source: item.source,
            event_id: item.event_id,
            generation: item.generation,
            k: item.k,
            operation: item.operation.to_owned(),
            state: "sent".to_owned(),
            last: item.last,
            request: item.request,
            target_id: item.target_id,
            sent_at: Some(self.now),
            settle_at: Some(self.now + delta(item.settle)),
        };
        self.effects.push(MEffect {
            row: row.clone(),
            resolved_at: None,
            late: false,
        });
        Reserved::Yes(Box::new(row))
    }

    fn owner_of(&mut self, link: i64, target: Option<&String>) -> Option<i64> {
        let target = target?;
        self.links
            .iter()
            .find(|other| other.row.target_id.as_ref() == Some(target) && other.row.id != link)
            .map(|other| other.row.id)
    }

    fn snapshot(&mut self, link: i64) -> Box<LinkSnapshot> {
        Box::new(LinkSnapshot {
            link: self.link(link).row.clone(),
            open: self.open(link),
        })
    }

    fn complete(&mut self, item: Completion) -> Completed {
        let now = self.now;
        let open = |effect: &MEffect| matches!(effect.row.state.as_str(), "sent" | "unknown");
        let confirmed = self.effect(item.effect).is_some_and(|effect| open(effect));
        if !confirmed {
            let linked = self.link(item.link).row.target_id.clone();
            if let Some(effect) = self
                .effect(item.effect)
                .filter(|effect| item.answered && effect.row.state == "abandoned" && !effect.late)
            {
                effect.late = true;
                effect.row.target_id = item.target_id.clone().or(effect.row.target_id.clone());
                let doubled = effect.row.operation == "create" && linked != item.target_id;
                let link = self.link(item.link);
                if doubled {
                    link.row.state = "conflict".into();
                    link.row.conflict_cause = Some("late_create".into());
                    link.last_error = Some(format!(
                        "a create that was given up has been answered: two records may exist, {} and {}",
                        linked.as_deref().unwrap_or("none linked"),
                        item.target_id.as_deref().unwrap_or("unknown")
                    ));
                } else {
                    link.recheck_at = Some(now);
                    link.row.recheck_step = 0;
                }
            }
            return Completed::Elsewhere(self.snapshot(item.link));
        }
        let effect = self.effect(item.effect).expect("checked");
        effect.row.state = "confirmed".into();
        effect.row.target_id = item.target_id.clone().or(effect.row.target_id.clone());
        effect.resolved_at = Some(now);
        let effect = effect.row.clone();
        let target = item
            .target_id
            .clone()
            .or(self.link(item.link).row.target_id.clone());
        if let Some(other) = self.owner_of(item.link, target.as_ref()) {
            let link = self.link(item.link);
            link.row.state = "conflict".into();
            link.row.conflict_cause = Some("record_taken".into());
            link.last_error = Some(format!(
                "the partner's record {} already belongs to link {other}",
                target.unwrap_or_default()
            ));
        } else {
            let gives_back = effect.last && !item.keep_lease;
            let gone = effect.operation == "delete";
            let link = self.link(item.link);
            if gone {
                link.row.former_target_id = link
                    .row
                    .target_id
                    .take()
                    .or(link.row.former_target_id.take());
                link.row.base = json!({});
                link.row.target_parts = json!({});
            } else {
                link.row.target_id = target;
                link.row.former_target_id = None;
                link.row.base = item.base;
                link.row.target_parts = item.parts;
            }
            if link.row.state != "conflict" {
                link.row.state = if gone { "deleted" } else { "linked" }.into();
            }
            link.last_error = None;
            link.row.written_at = Some(now);
            link.row.missing_since = None;
            if effect.last {
                link.row.applied_k = link.row.applied_k.clone().max(effect.k.clone());
            }
            if gives_back && link.row.lease_token == Some(item.token) {
                link.row.lease_token = None;
                link.row.lease_until = None;
            }
            if gives_back
                && link
                    .claim
                    .as_ref()
                    .is_some_and(|claim| claim.token == item.token)
            {
                link.claim = None;
            }
            if effect.last {
                if effect.k.is_some() {
                    self.close_covered(item.link, &effect.source, &effect.event_id);
                }
                self.unsettled.remove(&item.token);
                if gone {
                    self.keys.retain(|_, owner| *owner != item.link);
                } else if let Some(keys) = item.natural_keys {
                    self.keys
                        .retain(|key, owner| *owner != item.link || keys.contains(key));
                }
            }
        }
        let snapshot = self.snapshot(item.link);
        if effect.last && !item.keep_lease && snapshot.link.state != "conflict" {
            return Completed::Ended;
        }
        Completed::Confirmed(snapshot)
    }

    fn resolve(&mut self, item: Resolution) -> Resolved {
        let now = self.now;
        let (id, link, to, begun, recheck) = match item {
            Resolution::Failed {
                effect,
                link,
                recheck,
                ..
            } => (effect, link, "failed", None, recheck),
            Resolution::Unknown { effect, link, .. } => (effect, link, "unknown", None, None),
            Resolution::Abandoned {
                effect,
                link,
                begun,
                recheck,
            } => (effect, link, "abandoned", Some(begun), Some(recheck)),
        };
        let effect = self.effect(id).expect("the driver names an effect");
        let state = effect.row.state.as_str();
        let allowed = match to {
            "unknown" => state == "sent",
            "failed" => matches!(state, "sent" | "unknown"),
            _ => {
                matches!(state, "sent" | "unknown")
                    && effect
                        .row
                        .settle_at
                        .is_some_and(|settle| begun.is_some_and(|begun| begun >= settle))
            }
        };
        if allowed {
            effect.row.state = to.into();
            effect.resolved_at = (to != "unknown").then_some(now);
            if let Some(recheck) = recheck {
                let link = self.link(link);
                link.recheck_at = Some(now + delta(recheck));
                link.row.recheck_step = 0;
            }
        }
        Resolved {
            moved: allowed,
            link: self.link(link).row.clone(),
            open: self.open(link),
        }
    }

    fn finish(&mut self, item: Finish) -> Finished {
        let now = self.now;
        let open = self.open(item.link);
        if self.link(item.link).row.lease_token != Some(item.token)
            || (!item.despite_open && open.is_some())
            || (item.end == End::Adopted && self.link(item.link).row.target_id.is_some())
            || (item.end == End::Missed
                && self
                    .link(item.link)
                    .row
                    .written_at
                    .is_some_and(|at| at > item.begun))
            || (item.end == End::Conflict
                && item.cause == Some(ConflictCause::Gone)
                && self.link(item.link).row.missing_since.is_none())
        {
            return Finished {
                guarded: true,
                taken: None,
                link: self.link(item.link).row.clone(),
                open,
            };
        }
        match item.end {
            End::Adopted => {
                if let Some(other) = self.owner_of(item.link, item.target_id.as_ref()) {
                    return Finished {
                        guarded: false,
                        taken: Some(other),
                        link: self.link(item.link).row.clone(),
                        open,
                    };
                }
                let link = self.link(item.link);
                link.row.target_id = item.target_id;
                link.row.former_target_id = None;
                link.row.state = "linked".into();
                link.row.base = item.base;
                link.row.target_parts = item.parts;
                link.row.written_at = Some(now);
                link.row.missing_since = None;
            }
            End::Missed => {
                let link = self.link(item.link);
                link.row.missing_since = link.row.missing_since.or(Some(item.begun));
            }
            End::Seen => {
                let link = self.link(item.link);
                link.row.missing_since = None;
                if link.row.conflict_cause.as_deref() == Some("gone") {
                    link.settle_conflict();
                }
            }
            End::Noted => self.link(item.link).row.target_parts = item.parts,
            end => {
                let covers = matches!(end, End::Unchanged | End::Deleted);
                let link = self.link(item.link);
                if end == End::Deleted {
                    link.row.state = "deleted".into();
                    link.row.former_target_id = link
                        .row
                        .target_id
                        .take()
                        .or(link.row.former_target_id.take());
                    link.row.base = json!({});
                    link.row.target_parts = json!({});
                    link.row.missing_since = None;
                    link.row.conflict_cause = None;
                }
                if end == End::Conflict {
                    link.row.state = "conflict".into();
                    link.row.conflict_cause = item.cause.map(|cause| cause.as_str().to_owned());
                    link.last_error = item.note["reason"].as_str().map(str::to_owned);
                }
                if covers {
                    link.row.applied_k = link.row.applied_k.clone().max(item.k.clone());
                    link.last_error = None;
                }
                if matches!(end, End::Rechecked | End::Conflict) {
                    link.recheck_at = item.recheck.map(|wait| now + delta(wait));
                }
                if matches!(end, End::Rechecked | End::Conflict) {
                    link.row.recheck_step = item.recheck_step;
                }
                self.give_back(item.link);
                self.unsettled.remove(&item.token);
                if covers {
                    self.close_covered(item.link, &item.source, &item.event_id);
                }
                if end == End::Deleted {
                    self.keys.retain(|_, owner| *owner != item.link);
                } else if end == End::Unchanged
                    && let Some(keys) = item.natural_keys
                {
                    self.keys
                        .retain(|key, owner| *owner != item.link || keys.contains(key));
                }
            }
        }
        Finished {
            guarded: false,
            taken: None,
            link: self.link(item.link).row.clone(),
            open: self.open(item.link),
        }
    }

    fn release(&mut self, token: Uuid) {
        for link in &mut self.links {
            if link.row.lease_token == Some(token) {
                link.row.lease_token = None;
                link.row.lease_until = None;
            }
            if link
                .claim
                .as_ref()
                .is_some_and(|claim| claim.token == token)
            {
                link.claim = None;
            }
        }
        self.unsettled.remove(&token);
    }

    fn record_dead_letters(&mut self, item: DeadItem) -> Recorded {
        let now = self.now;
        let generation = item.generation;
        if !self
            .deaths
            .insert((item.dead_id, generation, item.attempt, item.at))
        {
            return Recorded::Repeat;
        }
        if let Some(dead) = self.dead.get(&item.dead_id) {
            let same = dead.generation == generation;
            let decided = matches!(dead.state, "resolved" | "overtaken" | "discarded")
                && dead.resolved_at.is_some_and(|at| item.at <= at);
            if dead.generation > generation
                || (same && dead.state == "open" && item.at <= dead.last_at)
                || (same && decided)
            {
                return Recorded::History;
            }
        }
        let found: Vec<i64> = self
            .links
            .iter()
            .filter(|link| match item.link_id {
                Some(id) => link.row.id == id,
                None => item.k.is_some() && Some(&link.row.source_id) == item.source_id.as_ref(),
            })
            .map(|link| link.row.id)
            .collect();
        let mut first = None;
        let mut applied = false;
        if let Some(k) = &item.k {
            for id in &found {
                if self
                    .link(*id)
                    .row
                    .applied_k
                    .as_ref()
                    .is_some_and(|applied| k <= applied)
                {
                    applied = true;
                } else {
                    first = first.or(Some(*id));
                }
            }
        }
        if applied && first.is_none() {
            if let Some(dead) = self.dead.get_mut(&item.dead_id)
                && matches!(dead.state, "open" | "replaying")
                && dead.generation <= generation
            {
                dead.state = "resolved";
                dead.resolved_at = Some(now);
            }
            return Recorded::Applied;
        }
        let own = |effect: &&MEffect| {
            Some(effect.row.link_id) == first
                && Some(&effect.row.source) == item.source.as_ref()
                && Some(&effect.row.event_id) == item.event_id.as_ref()
                && effect.row.state == "confirmed"
        };
        let mut confirmed: Vec<&MEffect> = self.effects.iter().filter(own).collect();
        confirmed.sort_by_key(|effect| effect.resolved_at);
        let partly = confirmed
            .iter()
            .map(|effect| effect.row.operation.clone())
            .collect();
        let accused = found.iter().any(|id| self.accused(*id, &item));
        let class = if item.class == "delivery_limit" && !accused {
            "crash_neighbour".to_owned()
        } else {
            item.class.clone()
        };
        let row = MDead {
            state: "open",
            partly,
            generation,
            link: first,
            k: item.k.clone(),
            class,
            last_at: item.at,
            resolved_at: None,
            item: item.clone(),
        };
        self.dead.insert(item.dead_id, row);
        if let Some(k) = &item.k {
            for id in found {
                let (source, event) = (
                    item.source.clone().unwrap_or_default(),
                    item.event_id.clone().unwrap_or_default(),
                );
                self.unsettled
                    .retain(|_, (of, s, e)| !(*of == id && *s == source && *e == event));
                let link = self.link(id);
                let dead_lease = link.row.lease_until.is_none_or(|until| until <= now);
                if dead_lease
                    && link
                        .claim
                        .as_ref()
                        .is_some_and(|claim| claim.source == source && claim.event == event)
                {
                    link.claim = None;
                }
                self.fall_back(id, k);
            }
        }
        Recorded::Open
    }

    /// Whether a claim of this event never came back.
    fn accused(&self, link: i64, item: &DeadItem) -> bool {
        let (source, event) = (item.source.as_deref(), item.event_id.as_deref());
        let taken_over = self.unsettled.values().any(|(of, s, e)| {
            *of == link && Some(s.as_str()) == source && Some(e.as_str()) == event
        });
        let running = self
            .links
            .iter()
            .filter(|one| one.row.id == link)
            .filter_map(|one| one.claim.as_ref())
            .any(|claim| {
                Some(claim.source.as_str()) == source && Some(claim.event.as_str()) == event
            });
        taken_over || running
    }

    fn discard(&mut self, event: &str) -> bool {
        let now = self.now;
        let Some(at) = self
            .held
            .iter()
            .position(|held| held.item.event_id == event)
        else {
            return false;
        };
        let held = self.held.remove(at);
        let item = &held.item;
        let id = dead_id(
            WORKER,
            &item.tenant,
            &item.source,
            &item.event_id,
            item.connection_id,
            None,
        );
        let row = self.dead.entry(id).or_insert_with(|| MDead {
            state: "discarded",
            generation: item.generation,
            link: held.link,
            k: held.k.clone(),
            class: held.reason.clone(),
            last_at: now,
            resolved_at: Some(now),
            partly: Vec::new(),
            item: discarded_item(id, item, &held.reason, now),
        });
        row.state = "discarded";
        row.generation = item.generation;
        row.last_at = now;
        row.resolved_at = Some(now);
        if let (Some(link), Some(k)) = (held.link, &held.k) {
            self.fall_back(link, k);
        }
        true
    }

    fn hold(&mut self, item: HeldItem) -> HeldVerdict {
        let key = store::links::LinkKey {
            tenant: item.tenant.clone(),
            kind: item.kind.clone(),
            source_system: item.source_system.clone(),
            source_account: item.source_account.clone(),
            source_id: item.source_id.clone(),
            target_system: item.target_system.clone(),
            connection_id: item.connection_id.expect("schedules have a connection"),
        };
        let k = item.k.clone().expect("schedules hold state events");
        let id = self.find_link(&key);
        if self
            .link(id)
            .row
            .applied_k
            .as_ref()
            .is_some_and(|applied| k <= *applied)
        {
            return HeldVerdict::Covered;
        }
        if item.cause == "conflict" && self.link(id).row.state != "conflict" {
            return HeldVerdict::CauseGone;
        }
        if !item.person {
            if let Some(position) = self
                .held
                .iter()
                .position(|held| held.coalesces && held.link == Some(id))
            {
                let there = self.held[position]
                    .k
                    .clone()
                    .expect("coalescing rows have a key");
                let kept = |item: &HeldItem| Kept {
                    generation: item.generation,
                    body: item.body.clone(),
                };
                if there > k {
                    self.keep(id, k, kept(&item));
                    return HeldVerdict::Covered;
                }
                let older = self.held.remove(position);
                if there < k {
                    self.keep(id, there, kept(&older.item));
                }
            }
            self.held.push(MHeld {
                link: Some(id),
                coalesces: true,
                k: Some(k),
                reason: item.cause.clone(),
                item: item.clone(),
            });
        } else if let Some(there) = self.held.iter_mut().find(|held| {
            !held.coalesces
                && held.item.source == item.source
                && held.item.event_id == item.event_id
        }) {
            there.item.generation = there.item.generation.max(item.generation);
            self.fall_back(id, &k);
        } else {
            self.held.push(MHeld {
                link: Some(id),
                coalesces: false,
                k: Some(k.clone()),
                reason: item.cause.clone(),
                item: item.clone(),
            });
            self.fall_back(id, &k);
        }
        if item.person {
            // What leaves by itself only waits.
            self.unsettled
                .retain(|_, (of, s, e)| !(*of == id && *s == item.source && *e == item.event_id));
        }
        self.close_replay(
            dead_id(
                WORKER,
                &item.tenant,
                &item.source,
                &item.event_id,
                item.connection_id,
                None,
            ),
            item.generation,
            "resolved",
        );
        HeldVerdict::Held
    }
}

fn held_item(item: &ClaimItem, cause: &str) -> HeldItem {
    let key = item.link.as_ref().expect("events only");
    HeldItem {
        worker: WORKER.into(),
        tenant: item.tenant.clone(),
        target_system: key.target_system.clone(),
        connection_id: Some(key.connection_id),
        epoch: None,
        cause: cause.into(),
        person: true,
        detail: String::new(),
        kind: key.kind.clone(),
        source_system: key.source_system.clone(),
        source_account: key.source_account.clone(),
        source_id: key.source_id.clone(),
        k: item.k.clone(),
        source: item.source.clone(),
        event_id: item.event_id.clone(),
        generation: item.generation,
        event_type: item.event_type.clone(),
        subject: item.subject.clone(),
        body: item.body.clone(),
        properties: item.properties.clone(),
        headers: item.headers.clone(),
        link: None,
        release_at: None,
        waits_for: None,
    }
}

fn discarded_item(id: Uuid, item: &HeldItem, class: &str, at: DateTime<Utc>) -> DeadItem {
    DeadItem {
        outcome: None,
        dead_id: id,
        worker: item.worker.clone(),
        target_system: item.target_system.clone(),
        tenant: Some(item.tenant.clone()),
        connection_id: item.connection_id,
        link_id: None,
        kind: Some(item.kind.clone()),
        source_system: Some(item.source_system.clone()),
        source_account: Some(item.source_account.clone()),
        source_id: Some(item.source_id.clone()),
        k: item.k.clone(),
        source: Some(item.source.clone()),
        event_id: Some(item.event_id.clone()),
        event_type: Some(item.event_type.clone()),
        subject: Some(item.subject.clone()),
        generation: item.generation,
        attempt: 1,
        class: class.to_owned(),
        fingerprint: class.to_owned(),
        message: None,
        trace_id: None,
        at,
        body: item.body.clone(),
        properties: item.properties.clone(),
        headers: item.headers.clone(),
    }
}

impl Ledger for Model {
    fn reserve(&self, item: Reservation) -> BoxFuture<'_, Result<Reserved, store::Error>> {
        ready(Ok(self.with(|state| state.reserve(item)))).boxed()
    }
    fn complete(&self, item: Completion) -> BoxFuture<'_, Result<Completed, store::Error>> {
        ready(Ok(self.with(|state| state.complete(item)))).boxed()
    }
    fn resolve(&self, item: Resolution) -> BoxFuture<'_, Result<Resolved, store::Error>> {
        ready(Ok(self.with(|state| state.resolve(item)))).boxed()
    }
    fn finish(&self, item: Finish) -> BoxFuture<'_, Result<Finished, store::Error>> {
        ready(Ok(self.with(|state| state.finish(item)))).boxed()
    }
    fn release(
        &self,
        _link: i64,
        token: Uuid,
        _error: Option<String>,
    ) -> BoxFuture<'_, Result<(), store::Error>> {
        self.with(|state| state.release(token));
        ready(Ok(())).boxed()
    }
}

impl SimStore for Model {
    fn set_now(&self, now: DateTime<Utc>) -> BoxFuture<'_, ()> {
        self.with(|state| state.now = now);
        ready(()).boxed()
    }
    fn claim(&self, items: Vec<ClaimItem>, alone: bool) -> BoxFuture<'_, Vec<ClaimVerdict>> {
        ready(self.with(|state| state.claim(&items, alone))).boxed()
    }
    fn renew(&self, tokens: Vec<Uuid>) -> BoxFuture<'_, ()> {
        self.with(|state| {
            let until = state.now + delta(state.lease);
            for link in state.links.iter_mut().filter(|link| {
                link.row
                    .lease_token
                    .is_some_and(|token| tokens.contains(&token))
            }) {
                link.row.lease_until = Some(until);
            }
        });
        ready(()).boxed()
    }
    fn record_dead_letters(&self, item: DeadItem) -> BoxFuture<'_, Recorded> {
        ready(self.with(|state| state.record_dead_letters(item))).boxed()
    }
    fn hold(&self, item: HeldItem) -> BoxFuture<'_, HeldVerdict> {
        ready(self.with(|state| state.hold(item))).boxed()
    }
    fn take_outbox(&self) -> BoxFuture<'_, Vec<OutRow>> {
        ready(self.with(|state| std::mem::take(&mut state.outbox))).boxed()
    }
    fn due(&self) -> BoxFuture<'_, Vec<(i64, &'static str)>> {
        ready(self.with(|state| {
            let now = state.now;
            let mut due = Vec::new();
            for link in &state.links {
                let live = link.row.lease_token.is_some()
                    && link.row.lease_until.is_some_and(|until| until > now);
                let open = state.open(link.row.id);
                let settled = open
                    .as_ref()
                    .is_some_and(|effect| effect.settle_at.is_none_or(|settle| settle <= now));
                if settled && !live && link.row.state != "conflict" {
                    due.push((link.row.id, "resolve"));
                } else if open.is_none()
                    && (link.row.state != "conflict"
                        || link.row.conflict_cause.as_deref() == Some("gone"))
                    && !live
                    && link.recheck_at.is_some_and(|at| at <= now)
                {
                    due.push((link.row.id, "recheck"));
                }
            }
            due
        }))
        .boxed()
    }
    fn replay(&self, id: Uuid) -> BoxFuture<'_, bool> {
        ready(self.with(|state| {
            let Some(dead) = state.dead.get_mut(&id).filter(|dead| dead.state == "open") else {
                return false;
            };
            dead.state = "replaying";
            dead.generation += 1;
            let row = OutRow {
                body: dead.item.body.clone(),
                generation: dead.generation,
            };
            state.outbox.push(row);
            true
        }))
        .boxed()
    }
    fn release_held(&self, source: String, event: String) -> BoxFuture<'_, bool> {
        ready(self.with(|state| {
            let Some(position) = state
                .held
                .iter()
                .position(|held| held.item.source == source && held.item.event_id == event)
            else {
                return false;
            };
            let held = state.held.remove(position);
            state
                .unsettled
                .retain(|_, (_, s, e)| !(*s == source && *e == event));
            if let Some(link) = held.link.filter(|_| held.reason == "conflict") {
                state.settled_by_hand(link);
            }
            state.outbox.push(OutRow {
                body: held.item.body,
                generation: held.item.generation,
            });
            true
        }))
        .boxed()
    }
    fn discard(&self, event: String) -> BoxFuture<'_, bool> {
        ready(self.with(|state| state.discard(&event))).boxed()
    }
    fn snapshot(&self) -> BoxFuture<'_, Snapshot> {
        ready(self.with(|state| {
            Snapshot {
                links: state
                    .links
                    .iter()
                    .map(|link| LinkView {
                        row: link.row.clone(),
                        recheck_due: link.recheck_at,
                        open: state.open(link.row.id).is_some(),
                    })
                    .collect(),
                held: {
                    let mut held: Vec<_> = state
                        .held
                        .iter()
                        .map(|held| HeldRow {
                            event_id: held.item.event_id.clone(),
                            reason: held.reason.clone(),
                            generation: held.item.generation,
                        })
                        .collect();
                    held.sort();
                    held
                },
                dead: {
                    let mut dead: Vec<_> = state
                        .dead
                        .iter()
                        .map(|(id, dead)| DeadRow {
                            id: *id,
                            event_id: dead.item.event_id.clone().unwrap_or_default(),
                            state: dead.state.to_owned(),
                            class: dead.class.clone(),
                            generation: dead.generation,
                            partly: dead.partly.clone(),
                        })
                        .collect();
                    dead.sort();
                    dead
                },
                effects: {
                    let mut rows: Vec<_> = state.effects.iter().map(|effect| &effect.row).collect();
                    rows.sort_by_key(|row| row.id);
                    let view = |row: &EffectRow| EffectView {
                        event_id: row.event_id.clone(),
                        operation: row.operation.clone(),
                        state: row.state.clone(),
                        last: row.last,
                    };
                    rows.into_iter().map(view).collect()
                },
                kept: state.kept.len(),
                unsettled: state.unsettled.len(),
                keys: state
                    .keys
                    .iter()
                    .map(|(key, link)| (key.clone(), *link))
                    .collect(),
            }
        }))
        .boxed()
    }
}
