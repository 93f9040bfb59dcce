//! Chains of calls and parts of a record (V26, V27 and V35 of docs/tests.md): each part once, whoever made it, wherever
//! the chain was cut.

use sync::Record;
use worker::HoldCause;

use crate::lab::{MAIL, both, deleted, v, v_parts};
use crate::partner::Fault;
use crate::schedules::{content, part};
use crate::sim_store::SimStore;
use crate::world::{SimEvent, World};

/// What an answer of the partner may tell: ids of the parts, the record.
const ANSWERS: [(bool, bool); 3] = [(false, false), (true, false), (true, true)];

fn answers<S: SimStore + 'static>(world: &World<S>, (names_parts, shows_record): (bool, bool)) {
    let mut state = world.lock();
    state.partner.names_parts = names_parts;
    state.partner.shows_record = shows_record;
}

/// A record with these parts stands there before.
fn somebody_adds<S: SimStore + 'static>(world: &World<S>, parts: &[&str]) {
    let mut state = world.lock();
    let now = state.now;
    let parts = parts.iter().map(|street| part(street)).collect();
    state
        .partner
        .person_adds(content("somebody", MAIL, &[]).fields, parts, now);
}

fn streets(record: &Record) -> Vec<&str> {
    let streets = record
        .parts
        .iter()
        .map(|shown| shown.part.fields["street"].as_str());
    let mut streets: Vec<&str> = streets.collect();
    streets.sort_unstable();
    streets
}

/// An event that manages its addresses and wants none.
fn no_parts(n: u64) -> SimEvent {
    let mut event = v_parts(n, &[]);
    event.content.parts.insert("address".into(), Vec::new());
    event
}

both! {
    /// V26
    async fn create_confirmed_by_another_still_gets_its_parts(lab) {
        for told in ANSWERS {
            let mut world = lab.world(vec![v_parts(1, &["A", "B", "C"])]).await;
            answers(&world, told);
            world.arrives("v1");
            world.run_to(0, "v1", "complete").await;
            world.fail_renewals(0, 120);
            world.advance(80).await;
            world.janitor_to(1, "resolve 1", "end").await;
            assert_eq!(world.effects().await, ["v1 create confirmed"]);
            world.resume(0, "v1", "copy").await;
            assert_eq!(world.outcomes("v1"), ["retry 1s (the record's lease was taken meanwhile)"]);
            world.ends_with("v1").await;
            assert_eq!(world.calls(), ["create", "append_part", "append_part"]);
        }
    }

    /// V26
    async fn only_the_last_effect_raises_applied(lab) {
        let mut world = lab.world(vec![v_parts(1, &["A", "B", "C"])]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "complete").await;
        for _ in 0..2 {
            world.resume(0, "v1", "complete").await;
            assert_eq!(world.applied(0).await, "nothing");
        }
        world.resume(0, "v1", "end").await;
        assert_eq!(world.applied(0).await, "v1");
        assert_eq!(
            world.effects().await,
            ["v1 create confirmed", "v1 append_part confirmed", "v1 append_part confirmed last"]
        );
        world.ends_with("v1").await;
    }

    /// V26
    async fn chain_keeps_its_lease(lab) {
        let mut world = lab.world(vec![v_parts(1, &["A", "B", "C"]), v_parts(2, &["A"])]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "reserve").await;
        let lease = world.link(0).await.row.lease_token;
        assert!(lease.is_some());
        world.arrives("v2");
        for _ in 0..2 {
            world.resume(0, "v1", "reserve").await;
            assert_eq!(world.link(0).await.row.lease_token, lease);
            let waits = world.outcomes("v2").len();
            if world.queued("v2") {
                world.run_to(1, "v2", "end").await;
                let outcomes = world.outcomes("v2");
                assert_eq!(outcomes.len(), waits + 1);
                assert!(outcomes[waits].contains("holds the record's lease"), "{outcomes:?}");
            }
        }
        world.resume(0, "v1", "end").await;
        assert_eq!(world.link(0).await.row.lease_token, None);
        world.ends_with("v2").await;
    }

    /// 1.3: a chain of a create and three appends, cut at every line; with every answer heard, or one of them lost.
    async fn kill_between_any_two_effects_leaves_each_part_once(lab) {
        let (told, lost) = if lab.is_slow() {
            (&ANSWERS[1..2], vec![1, 4])
        } else {
            (&ANSWERS[..], vec![0, 1, 2, 3, 4])
        };
        for told in told {
            for lost in lost.clone() {
                for line in 0.. {
                    let mut world = lab.world(vec![v_parts(1, &["A", "B", "C", "D"])]).await;
                    answers(&world, *told);
                    world.arrives("v1");
                    if lost < 4 {
                        let mut state = world.lock();
                        state.partner.script.extend((0..lost).map(|_| Fault::None));
                        state.partner.script.push_back(Fault::Lost);
                    }
                    let stands = world.run_steps(0, "v1", line).await;
                    world.crash(0);
                    world.ends_with("v1").await;
                    assert_eq!(world.live()[0].parts.len(), 4, "answer {lost} lost, killed at {stands:?}");
                    if stands.is_none() {
                        assert!(line > 5, "it must have lines to be killed at");
                        break;
                    }
                }
            }
        }
    }

    /// V27
    async fn refused_part_says_partly_applied(lab) {
        for told in ANSWERS {
            let mut world = lab.world(vec![v_parts(1, &["A"]), v_parts(2, &["A", "D"])]).await;
            answers(&world, told);
            world.lock().partner.refuses = vec!["D".into()];
            for event in ["v1", "v2"] {
                world.arrives(event);
                world.rest().await;
            }
            assert_eq!(world.dead_letters().await, ["v2 open refused"]);
            let dead = world.partly_applied("v2").await;
            assert_eq!(dead, ["update"], "half of v2 stands at the partner, and it is said");
            assert_eq!(world.applied(0).await, "v1");
            assert_eq!(world.live()[0].fields["name"], "n2");
            assert_eq!(streets(&world.live()[0]), ["A"]);
        }
    }

    /// V35
    async fn persons_equal_part_is_found_not_added(lab) {
        for told in ANSWERS {
            let mut world = lab.world(vec![v_parts(1, &["A", "B"])]).await;
            answers(&world, told);
            somebody_adds(&world, &["B"]);
            world.arrives("v1");
            world.ends_with("v1").await;
            assert_eq!(streets(&world.live()[0]), ["A", "B"]);
            assert_eq!(world.calls(), ["update", "append_part"]);
        }
    }

    /// V35
    async fn pairing_does_not_make_two_equal_parts(lab) {
        for told in ANSWERS {
            let mut world = lab.world(vec![v_parts(1, &["A"]), v_parts(2, &["B", "C"])]).await;
            answers(&world, told);
            world.arrives("v1");
            world.ends_with("v1").await;
            // Somebody adds the very part that our A would become.
            world.person_adds_part(0, "B");
            world.arrives("v2");
            world.ends_with("v2").await;
            // Where no answer said that A is ours, it is nobody's to change.
            let ours_is_known = told.0;
            let wanted = if ours_is_known { vec!["B", "C"] } else { vec!["A", "B", "C"] };
            assert_eq!(streets(&world.live()[0]), wanted);
        }
    }

    /// V35
    async fn found_part_is_never_overwritten(lab) {
        for told in ANSWERS {
            let mut world = lab.world(vec![v_parts(1, &["B"]), v_parts(2, &["C"])]).await;
            answers(&world, told);
            somebody_adds(&world, &["B"]);
            for event in ["v1", "v2"] {
                world.arrives(event);
                world.ends_with(event).await;
            }
            assert_eq!(streets(&world.live()[0]), ["B", "C"], "B is somebody's");
        }
    }

    /// V35
    async fn part_that_returns_is_not_sent_again(lab) {
        for told in ANSWERS {
            let mut world = lab.world(vec![v_parts(1, &["A"]), no_parts(2), v_parts(3, &["A"])]).await;
            answers(&world, told);
            for event in ["v1", "v2", "v3"] {
                world.arrives(event);
                world.ends_with(event).await;
            }
            assert_eq!(streets(&world.live()[0]), ["A"]);
            assert_eq!(world.calls(), ["create", "update", "update"]);
        }
    }

    /// V35
    async fn equal_parts_in_one_event_are_sent_once(lab) {
        for told in ANSWERS {
            let mut world = lab.world(vec![v_parts(1, &["A", "A", "B", "B"])]).await;
            answers(&world, told);
            world.arrives("v1");
            world.ends_with("v1").await;
            assert_eq!(streets(&world.live()[0]), ["A", "B"]);
            assert_eq!(world.calls(), ["create", "append_part"]);
            // Counted once as well: the one append is the last call.
            let effects = world.effects().await;
            assert_eq!(effects, ["v1 create confirmed", "v1 append_part confirmed last"]);
        }
    }

    /// V35
    async fn recreated_record_gets_all_parts(lab) {
        for (told, deletes) in ANSWERS.into_iter().flat_map(|told| [(told, false), (told, true)]) {
            let again = v_parts(3, &["A", "B"]);
            let mut world = lab.world(vec![v_parts(1, &["A", "B"]), deleted(2), again]).await;
            answers(&world, told);
            world.lock().partner.deletes = deletes;
            for event in ["v1", "v2", "v3"] {
                world.arrives(event);
                world.rest().await;
            }
            world.ends_with("v3").await;
            assert_eq!(streets(&world.live()[0]), ["A", "B"]);
            let target = world.link(0).await.row.target_id;
            assert_eq!(target.as_deref() == Some("p1"), !deletes);
        }
    }

    /// V27, V31
    async fn last_effect_found_later_closes_its_own_row_dead(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        world.lock().partner.script.push_back(Fault::Late(40));
        world.arrives("v1");
        world.run_to(0, "v1", "no answer").await;
        world.crash(0);
        // The broker gives up before anybody has looked.
        for _ in 0..crate::world::DELIVERY_LIMIT {
            world.run_to(2, "v1", "start").await;
            world.crash(2);
        }
        world.ledger_takes_all().await;
        assert_eq!(world.dead_letters().await, ["v1 open delivery_limit"]);
        world.ends_with("v1").await;
        assert_eq!(world.dead_letters().await, ["v1 resolved delivery_limit"]);
        assert_eq!(world.effects().await, ["v1 create confirmed last"]);
    }

    /// V27, V31
    async fn last_effect_found_later_closes_its_own_row_held(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        held_with_an_open_effect(&mut world).await;
        assert_eq!(world.held().await, ["v1 poison"]);
        world.ends_with("v1").await;
        assert!(world.held().await.is_empty());
        assert_eq!(world.effects().await, ["v1 create confirmed last"]);
    }

    /// V27, V31
    async fn last_effect_found_later_closes_its_own_row_discarded(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        held_with_an_open_effect(&mut world).await;
        world.discarded("v1").await;
        assert_eq!(world.dead_letters().await, ["v1 discarded poison"]);
        world.ends_with("v1").await;
        assert_eq!(world.dead_letters().await, ["v1 resolved poison"]);
    }

    /// 1.9, R1a's neighbour: a create that cannot be looked up is sent once and then shown to a person.
    async fn append_without_key_is_sent_at_most_once(lab) {
        let mut nameless = v(1);
        nameless.content.keys.clear();
        let mut world = lab.world(vec![nameless]).await;
        world.lock().partner.script.push_back(Fault::Lost);
        world.arrives("v1");
        world.rest().await;
        assert_eq!(world.calls(), ["create"]);
        assert_eq!(world.held().await, [format!("v1 {}", HoldCause::Conflict)]);
        assert_eq!(world.link(0).await.row.state, "conflict");
    }
}

/// Three processes end while they handle v1: the first after its create has left, which is committed later and which
/// nobody has looked for. The fourth claim holds it.
async fn held_with_an_open_effect<S: SimStore + 'static>(world: &mut World<S>) {
    world.lock().partner.script.push_back(Fault::Late(60));
    world.arrives("v1");
    world.run_to(0, "v1", "no answer").await;
    world.crash(0);
    for _ in 0..2 {
        world.advance(31).await;
        world.run_to(1, "v1", "find").await;
        world.crash(1);
    }
    world.advance(31).await;
    world.run_to(1, "v1", "end").await;
}
