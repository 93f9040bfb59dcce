//! Events that end their process (V28 to V31 of docs/tests.md): only the harmful one is held, older content goes on, and
//! a worker that comes back late finds no row that calls its event dead.

use crate::lab::{both, poison, v};
use crate::partner::Fault;
use crate::schedules::{content, event};
use crate::world::{Poison, SimEvent};

const KINDS: [Poison; 3] = [Poison::AtClaim, Poison::BeforeCall, Poison::AtAnswer];

both! {
    /// V28
    async fn held_poison_lets_older_content_through(lab) {
        for kind in [Poison::AtClaim, Poison::BeforeCall] {
            let mut world = lab.world(vec![v(1), v(2), poison(3, kind)]).await;
            world.arrives("v3");
            world.run_to(0, "v3", "end").await;
            assert_eq!(world.kills("v3"), 1);
            for event in ["v1", "v2"] {
                world.arrives(event);
                world.run_to(1, event, "end").await;
                assert_eq!(world.verdicts(event), ["Superseded"]);
            }
            world.ends_with("v2").await;
            assert_eq!(world.held().await, ["v3 poison"]);
            assert_eq!(world.kills("v3"), 3);
        }
    }

    /// V28
    async fn two_poison_events_of_one_link_end_held_in_turn(lab) {
        let events = vec![v(1), poison(2, Poison::AtClaim), poison(3, Poison::AtClaim)];
        let mut world = lab.world(events).await;
        for event in ["v1", "v2", "v3"] {
            world.arrives(event);
        }
        world.ends_with("v1").await;
        assert_eq!(world.held().await, ["v2 poison", "v3 poison"]);
        assert_eq!((world.kills("v2"), world.kills("v3")), (3, 3));
    }

    /// V28
    async fn release_after_newer_is_a_duplicate(lab) {
        let mut world = lab.world(vec![poison(2, Poison::AtClaim), v(3)]).await;
        world.arrives("v2");
        world.rest().await;
        assert_eq!(world.held().await, ["v2 poison"]);
        // Released, but v3 is quicker.
        world.released("v2").await;
        world.arrives("v3");
        world.run_to(0, "v3", "end").await;
        world.ends_with("v3").await;
        assert!(world.verdicts("v2").contains(&"Duplicate".to_owned()));
        assert_eq!(world.kills("v2"), 3);
        assert!(world.held().await.is_empty());
    }

    /// V29
    async fn a_wait_does_not_reset_the_claim_count(lab) {
        for kind in KINDS {
            let mut world = lab.world(vec![poison(1, kind)]).await;
            if kind == Poison::AtAnswer {
                // Else the second claim finds what the first has done.
                world.lock().partner.script.extend([Fault::Slow; 9]);
            }
            world.arrives("v1");
            world.rest().await;
            assert!(world.kills("v1") <= 3, "{kind:?} killed {}", world.kills("v1"));
            if kind == Poison::AtAnswer {
                assert_eq!(world.applied(0).await, "v1");
                continue;
            }
            assert_eq!(world.kills("v1"), 3);
            assert_eq!(world.held().await, ["v1 poison"]);
            let waits = world.outcomes("v1");
            let settling = waits.iter().filter(|outcome| outcome.contains("may still take effect")).count();
            assert!(kind != Poison::BeforeCall || settling >= 2, "between its claims it waited: {waits:?}");
        }
    }

    /// V29
    async fn janitor_claims_count_under_the_link(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        world.lock().partner.script.push_back(Fault::Error);
        world.arrives("v1");
        world.run_to(0, "v1", "no answer").await;
        world.crash(0);
        world.lose("v1");
        world.advance(80).await;
        // Each request has an id of its own, and ends its process.
        for _ in 0..3 {
            world.janitor_to(0, "resolve 1", "find").await;
            world.crash(0);
            world.lose("resolve 1");
            world.advance(31).await;
        }
        world.janitor_to(0, "resolve 1", "end").await;
        assert_eq!(world.link(0).await.row.state, "conflict", "a person must look");
        world.rest().await;
        assert_eq!(world.calls(), ["create"]);
    }

    /// V30
    async fn neighbours_of_a_poison_event_are_applied(lab) {
        for kind in [Poison::AtClaim, Poison::BeforeCall] {
            let mut events = vec![poison(1, kind)];
            events.extend((1..4).map(|record| {
                let mail = format!("neighbour{record}@x");
                event(&format!("neighbour{record}"), record, 1, content("good", &mail, &["A"]))
            }));
            let mut world = lab.world(events.clone()).await;
            world.slots = 4;
            world.lock().processes.truncate(1);
            for event in &events {
                world.arrives(&event.id);
            }
            // All four are claimed by the one process when it dies.
            for event in &events[1..] {
                world.run_to(0, &event.id, "reserve").await;
            }
            world.run_to(0, "v1", "end").await;
            assert_eq!(world.kills("v1"), 1);
            world.rest().await;
            assert_eq!(world.held().await, ["v1 poison"], "only the harmful one");
            assert_eq!(world.kills("v1"), 3);
            for event in &events[1..] {
                world.shows(&event.id).await;
            }
        }
    }

    /// V30
    async fn two_suspects_do_not_wait_for_each_other(lab) {
        let other = SimEvent {
            poison: Some(Poison::AtClaim),
            ..event("other", 1, 1, content("other", "b@x", &[]))
        };
        let mut world = lab.world(vec![poison(1, Poison::AtClaim), other]).await;
        world.slots = 4;
        world.lock().processes.truncate(1);
        for event in ["v1", "other"] {
            world.arrives(event);
            for _ in 0..2 {
                world.run_to(0, event, "end").await;
                world.advance(31).await;
            }
        }
        // Each waits for the other's end, in one process.
        world.run_to(0, "v1", "alone").await;
        world.run_to(0, "other", "copy").await;
        let outcome = world.outcomes("other").pop().expect("sent back");
        assert_eq!(outcome, "retry 5s (must run alone in its process)");
        world.rest().await;
        assert_eq!(world.held().await, ["other poison", "v1 poison"]);
        assert_eq!((world.kills("v1"), world.kills("other")), (3, 3));
    }

    /// V31
    async fn stale_copy_of_a_held_event_is_acknowledged(lab) {
        let mut world = lab.world(vec![v(1), poison(2, Poison::AtClaim)]).await;
        for event in ["v1", "v2"] {
            world.arrives(event);
            world.rest().await;
        }
        assert_eq!(world.held().await, ["v2 poison"]);
        world.arrives("v2");
        world.ends_with("v1").await;
        assert_eq!(world.verdicts("v2").last().map(String::as_str), Some("AlreadyHeld"));
        assert_eq!(world.kills("v2"), 3);
        assert_eq!(world.desired(0).await, "v1");
    }

    /// V31: the claim that counts to three is the one that holds, and what it superseded is on its way.
    async fn verdict_and_hold_are_one_transaction(lab) {
        let mut world = lab.world(vec![v(1), poison(2, Poison::AtClaim)]).await;
        world.arrives("v2");
        world.run_to(0, "v2", "claim").await;
        world.arrives("v1");
        for _ in 0..3 {
            // A copy of its own each time: the one at the claim stays where it is.
            world.arrives("v2");
            world.run_to(1, "v2", "end").await;
            world.lose("v2");
            world.advance(31).await;
        }
        assert!(world.held().await.is_empty());
        world.run_to(2, "v1", "end").await;
        assert_eq!(world.verdicts("v1"), ["Superseded"]);
        // One step: the claim.
        world.resume(0, "v2", "ack").await;
        assert_eq!(world.verdicts("v2"), ["Held"]);
        assert_eq!(world.held().await, ["v2 poison"]);
        assert_eq!(world.desired(0).await, "v1");
        assert_eq!(world.kills("v2"), 3);
        // The worker that read the verdict dies before it can settle, after the row was released: no other worker holds it again.
        world.released("v2").await;
        world.crash(0);
        world.lose("v2");
        world.lock().events[1].poison = None;
        world.ends_with("v2").await;
        assert!(world.held().await.is_empty());
    }

    /// V31
    async fn late_ack_removes_its_held_row(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "complete").await;
        world.freeze(0, 200);
        for _ in 0..2 {
            world.advance(40).await;
            world.run_to(1, "v1", "find").await;
            world.crash(1);
        }
        world.advance(40).await;
        world.run_to(1, "v1", "end").await;
        assert_eq!(world.held().await, ["v1 poison"]);
        // The one thought dead comes home.
        world.advance(100).await;
        world.resume(0, "v1", "end").await;
        assert!(world.held().await.is_empty());
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["create"]);
    }
}
