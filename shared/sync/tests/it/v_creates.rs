//! Creates whose outcome is in doubt (V1 to V6 of docs/tests.md): whoever comes next resolves them before anything else.

use crate::lab::{both, named, v};
use crate::partner::{Fault, SETTLE};
use crate::schedules::content;
use crate::world::SimEvent;
use crate::world::epoch;

/// Seconds of model time since the beginning.
fn seconds<S: crate::sim_store::SimStore + 'static>(world: &crate::world::World<S>) -> i64 {
    (world.lock().now - epoch()).num_seconds()
}

/// As `v`, of a record that nothing can look up.
fn without_a_key(n: u64) -> SimEvent {
    let mut event = v(n);
    event.content.keys.clear();
    event
}

both! {
    /// Nothing finds what a create without a key made: a person gives it up, once no call of it can take effect any more.
    async fn a_release_gives_up_a_create_without_a_key_after_its_settle_time(lab) {
        for fault in [Fault::Lost, Fault::Error] {
            let mut world = lab.world(vec![without_a_key(1)]).await;
            let stays = matches!(fault, Fault::Lost);
            world.lock().partner.script.push_back(fault);
            world.arrives("v1");
            world.run_to(0, "v1", "end").await;
            world.advance(2).await;
            for release in [false, true] {
                if release {
                    // Too early: it may still take effect.
                    world.released("v1").await;
                    world.advance(0).await;
                }
                world.run_to(0, "v1", "end").await;
                let cause = world.link(0).await.row.conflict_cause;
                assert_eq!(cause.as_deref(), Some("unclear_create"));
                assert_eq!(world.effects().await, ["v1 create unknown last"]);
            }
            world.advance(i64::try_from(SETTLE.as_secs()).unwrap()).await;
            world.released("v1").await;
            world.rest().await;
            assert_eq!(world.calls(), ["create", "create"]);
            assert_eq!(world.effects().await, ["v1 create abandoned last", "v1 create confirmed last"]);
            assert_eq!(world.link(0).await.row.state, "linked");
            assert_eq!(world.live().len(), if stays { 2 } else { 1 });
        }
    }

    /// The call that was given up is answered after all.
    async fn a_late_answer_of_a_create_that_a_person_gave_up_is_a_conflict(lab) {
        let mut world = lab.world(vec![without_a_key(1), without_a_key(2)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "complete").await;
        world.freeze(0, 200);
        world.advance(40).await;
        world.arrives("v2");
        world.run_to(1, "v2", "end").await;
        assert_eq!(world.link(0).await.row.conflict_cause.as_deref(), Some("unclear_create"));
        world.advance(100).await;
        world.released("v2").await;
        world.advance(0).await;
        world.run_to(1, "v2", "end").await;
        assert_eq!(world.effects().await, ["v1 create abandoned last", "v2 create confirmed last"]);
        world.advance(100).await;
        world.resume(0, "v1", "end").await;
        let link = world.link(0).await.row;
        assert_eq!(link.conflict_cause.as_deref(), Some("late_create"));
        assert_eq!(world.calls(), ["create", "create"]);
    }

    /// V1
    async fn second_event_resolves_the_first_events_open_create(lab) {
        let mut world = lab.world(vec![v(1), v(2)]).await;
        world.lock().partner.script.push_back(Fault::Late(50));
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.arrives("v2");
        world.run_to(1, "v2", "end").await;
        assert_eq!(world.calls(), ["create"], "v2 must not create beside an open create");
        assert_eq!(world.effects().await, ["v1 create unknown last"]);
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "update"]);
        assert_eq!(world.effects().await, ["v1 create confirmed last", "v2 update confirmed last"]);
    }

    /// V2
    async fn absent_before_settle_is_not_absent(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        world.lock().partner.script.push_back(Fault::Error);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        let settle = i64::try_from(SETTLE.as_secs()).unwrap();
        let sent = seconds(&world);
        let looks = world.lock().partner.looks;
        while seconds(&world) < sent + settle - 10 {
            assert_eq!(world.calls(), ["create"], "at {} s", seconds(&world));
            let actions = world.actions();
            let action = actions.first().expect("v1 waits in a retry tier");
            world.act(&action.clone()).await;
        }
        assert!(world.lock().partner.looks > looks, "somebody looked before the settle time");
        let waits = world.outcomes("v1");
        let waited = |outcome: &String| outcome.contains("may still take effect") || outcome.contains("not due yet");
        assert!(waits.len() > 1 && waits[1..].iter().all(waited), "{waits:?}");
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["create", "create"]);
        assert_eq!(world.effects().await, ["v1 create abandoned last", "v1 create confirmed last"]);
    }

    /// V2
    async fn late_commit_within_settle_is_adopted(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        world.lock().partner.script.push_back(Fault::Late(50));
        world.arrives("v1");
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["create"]);
        assert_eq!(world.effects().await, ["v1 create confirmed last"]);
    }

    /// V3
    async fn frozen_before_send_does_not_send_after_its_window(lab) {
        // Another owner has made the record meanwhile.
        let mut world = lab.world(vec![v(1), v(3)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "reserved").await;
        world.freeze(0, 100);
        world.arrives("v3");
        world.advance(80).await;
        world.run_to(1, "v3", "end").await;
        assert_eq!(world.applied(0).await, "v3");
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create"]);

        // Nobody else came: a pause shorter than the lease.
        let mut world = lab.world(vec![v(1)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "reserved").await;
        world.freeze(0, 8);
        world.advance(9).await;
        world.resume(0, "v1", "end").await;
        assert!(world.calls().is_empty(), "sent after its window");
        assert_eq!(world.outcomes("v1"), ["retry 1s (too little time left for the call)"]);
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["create"]);
    }

    /// V4
    async fn redelivery_to_the_same_process_is_a_stranger(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "reserve").await;
        world.close_channel(0);
        world.run_to(0, "v1", "copy").await;
        assert_eq!(world.outcomes("v1"), ["retry 1s (another worker holds the record's lease)"]);
        assert!(world.calls().is_empty());
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["create"]);

        // An update: the older task is slow, its lease ends, the stranger must not overtake its open effect.
        let mut world = lab.world(vec![v(1), v(2), v(3)]).await;
        world.arrives("v1");
        world.ends_with("v1").await;
        world.lock().partner.script.push_back(Fault::Slow);
        world.arrives("v2");
        world.run_to(0, "v2", "reserved").await;
        world.close_channel(0);
        world.fail_renewals(0, 60);
        world.advance(4).await;
        world.resume(0, "v2", "answer").await;
        world.arrives("v3");
        world.advance(10).await;
        world.run_to(0, "v3", "end").await;
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create", "update", "update"]);
    }

    /// V5
    async fn late_answer_after_a_lost_lease_records_the_fact_only(lab) {
        let mut world = lab.world(vec![v(1), v(3)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "complete").await;
        world.freeze(0, 100);
        world.advance(40).await;
        world.arrives("v3");
        world.run_to(1, "v3", "end").await;
        assert_eq!(world.applied(0).await, "v3");
        let base = world.link(0).await.row.base;
        world.advance(70).await;
        world.resume(0, "v1", "end").await;
        assert_eq!(world.outcomes("v1"), ["ack already_done"]);
        assert_eq!(world.link(0).await.row.base, base);
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create", "update"]);

        // Nobody else has resolved it: the fact is recorded, although the lease is somebody else's.
        let mut world = lab.world(vec![v(1), v(3)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "complete").await;
        world.freeze(0, 100);
        world.advance(40).await;
        world.arrives("v3");
        world.run_to(1, "v3", "find").await;
        let lease = world.link(0).await.row.lease_token;
        world.advance(70).await;
        world.resume(0, "v1", "end").await;
        assert_eq!(world.applied(0).await, "v1");
        assert_eq!(world.link(0).await.row.lease_token, lease, "v3 keeps its lease");
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create", "update"]);
    }

    /// V5
    async fn applied_never_goes_back(lab) {
        let mut world = lab.world(vec![v(1), v(2), v(3)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "complete").await;
        world.freeze(0, 100);
        world.advance(40).await;
        world.arrives("v3");
        world.run_to(1, "v3", "end").await;
        world.advance(70).await;
        world.resume(0, "v1", "end").await;
        assert_eq!(world.applied(0).await, "v3");
        world.arrives("v2");
        world.ends_with("v3").await;
        assert_eq!(world.verdicts("v2"), ["Duplicate"]);
        assert_eq!(world.calls(), ["create", "update"]);
    }

    /// V6
    async fn found_record_with_other_content_proves_nothing(lab) {
        let mut world = lab.world(vec![named(1, "ours")]).await;
        world.lock().partner.script.push_back(Fault::Error);
        world.arrives("v1");
        world.run_to(0, "v1", "reserve").await;
        {
            let mut state = world.lock();
            let now = state.now;
            state.partner.person_adds(content("somebody", "a@x", &[]).fields, Vec::new(), now);
        }
        world.resume(0, "v1", "end").await;
        world.advance(10).await;
        world.run_to(1, "v1", "end").await;
        let link = world.link(0).await;
        assert!(link.open, "somebody's record proves nothing about our call");
        assert_eq!(link.row.target_id.as_deref(), Some("p1"));
        assert_eq!(link.row.applied_k, None);
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["create", "update"]);
        assert_eq!(world.effects().await, ["v1 create abandoned last", "v1 update confirmed last"]);

        // Of an update: the record stands there with its old content.
        let mut world = lab.world(vec![v(1), v(2)]).await;
        world.arrives("v1");
        world.ends_with("v1").await;
        world.lock().partner.script.push_back(Fault::Error);
        world.arrives("v2");
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "update", "update"]);
    }
}
