//! Claims (V8, V21, V23 and V37 of docs/tests.md): waiting costs nothing, stale copies change nothing, and a worker that lost its
//! lease is neither finished nor dead.

use chrono::TimeDelta;

use crate::lab::{Lab as _, OnModel, both, deleted, named, v};
use crate::partner::Fault;
use crate::world::epoch;

const LOST: &str = "retry 1s (the record's lease was taken meanwhile)";

both! {
    /// V8
    async fn waiting_for_a_lease_costs_no_attempt(lab) {
        let mut world = lab.world(vec![v(1), v(2)]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "reserve").await;
        world.crash(0);
        world.lose("v1");
        world.arrives("v2");
        world.rest().await;
        let outcomes = world.outcomes("v2");
        let waits = outcomes.iter().filter(|outcome| outcome.contains("holds the record's lease")).count();
        // More often than an event may fail.
        assert!(waits >= 12, "{outcomes:?}");
        assert!(world.dead_letters().await.is_empty());
        world.ends_with("v2").await;
    }

    /// V21
    async fn stale_copy_of_a_dead_version_is_acknowledged(lab) {
        let mut world = lab.world(vec![v(1), v(2), v(3)]).await;
        world.lock().partner.refuses = vec!["n3".into()];
        world.arrives("v3");
        world.run_to(0, "v3", "claim").await;
        world.arrives("v3");
        world.run_to(1, "v3", "end").await;
        world.ledger_takes_all().await;
        assert_eq!(world.dead_letters().await, ["v3 open refused"]);
        world.resume(0, "v3", "ack").await;
        assert_eq!(world.verdicts("v3"), ["Stale"]);
        assert_eq!(world.desired(0).await, "nothing", "a stale copy must not raise it");
        world.crash(0);
        world.lose("v3");
        world.arrives("v2");
        world.arrives("v1");
        world.ends_with("v2").await;
        assert_eq!(world.dead_letters().await, ["v3 open refused"]);
    }

    /// V21
    async fn replay_is_the_next_generation(lab) {
        let mut world = lab.world(vec![v(1), v(3)]).await;
        world.lock().partner.refuses = vec!["n3".into()];
        world.arrives("v1");
        world.arrives("v3");
        world.ends_with("v1").await;
        world.lock().partner.refuses.clear();
        world.replayed("v3").await;
        assert_eq!(world.dead_letters().await, ["v3 replaying refused"]);
        world.ends_with("v3").await;
        assert_eq!(world.applied(0).await, "v3 gen 1");
        assert_eq!(world.dead_letters().await, ["v3 resolved refused"]);
        // The first generation comes once more: its dead letter is closed, so it must not begin again.
        world.arrives("v3");
        let calls = world.calls();
        world.ends_with("v3").await;
        assert_eq!(world.verdicts("v3"), ["Stale"]);
        assert_eq!(world.calls(), calls);

        // A replay may die as well, and be replayed.
        let mut world = lab.world(vec![v(3)]).await;
        world.lock().partner.refuses = vec!["n3".into()];
        world.arrives("v3");
        world.rest().await;
        world.replayed("v3").await;
        world.rest().await;
        assert_eq!(world.dead_letters().await, ["v3 open refused"]);
        world.lock().partner.refuses.clear();
        world.replayed("v3").await;
        world.ends_with("v3").await;
        assert_eq!(world.applied(0).await, "v3 gen 2");
    }

    /// V21
    async fn older_generation_after_an_edit_is_ignored(lab) {
        let mut world = lab.world(vec![named(3, "bad")]).await;
        world.lock().partner.refuses = vec!["bad".into()];
        world.arrives("v3");
        world.rest().await;
        let refused = world.calls();
        world.lock().events[0] = named(3, "mended");
        world.replayed("v3").await;
        // The edited one is on its way; an old copy overtakes it.
        world.arrives("v3");
        world.run_to(0, "v3", "end").await;
        assert_eq!(world.verdicts("v3"), ["Stale"]);
        assert_eq!(world.calls(), refused);
        world.ends_with("v3").await;
        assert_eq!(world.applied(0).await, "v3 gen 1");
        assert_eq!(world.dead_letters().await, ["v3 resolved refused"]);
    }

    /// V23
    async fn ending_without_a_call_needs_the_lease(lab) {
        // The event says what is there already; the worker that finds that out has lost its lease to a copy that dies.
        let mut world = lab.world(vec![named(1, "same"), named(3, "same")]).await;
        world.arrives("v1");
        world.ends_with("v1").await;
        world.arrives("v3");
        world.run_to(0, "v3", "finish").await;
        world.fail_renewals(0, 60);
        world.advance(31).await;
        world.arrives("v3");
        world.run_to(1, "v3", "finish").await;
        world.crash(1);
        world.lose("v3");
        world.resume(0, "v3", "copy").await;
        assert_eq!(world.outcomes("v3"), [LOST]);
        assert_eq!(world.applied(0).await, "v1");
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create"]);

        // The same with a deletion, and with a record that is only to be adopted.
        let mut world = lab.world(vec![v(1), deleted(3)]).await;
        world.arrives("v1");
        world.ends_with("v1").await;
        world.arrives("v3");
        world.run_to(0, "v3", "finish").await;
        world.fail_renewals(0, 60);
        world.advance(31).await;
        world.arrives("v3");
        world.run_to(1, "v3", "finish").await;
        world.crash(1);
        world.lose("v3");
        world.resume(0, "v3", "copy").await;
        assert_eq!(world.outcomes("v3"), [LOST]);
        world.rest().await;
        assert_eq!(world.link(0).await.row.state, "deleted");
    }

    /// V37: three times an answer comes after its lease has ended and somebody else has looked.
    async fn lost_lease_returns_its_claim(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        world.arrives("v1");
        for round in 1..=3 {
            world.lock().partner.script.push_back(Fault::Error);
            world.run_to(0, "v1", "no answer").await;
            world.fail_renewals(0, 60);
            world.advance(40).await;
            world.arrives("v1");
            world.run_to(1, "v1", "end").await;
            assert_eq!(world.unsettled().await, 1, "round {round}");
            world.resume(0, "v1", "end").await;
            assert_eq!(world.unsettled().await, 0, "nothing died in round {round}");
            // Their copies come back; one is enough.
            world.advance(90).await;
            while world.lock().queue.len() > 1 {
                world.lose("v1");
            }
        }
        world.ends_with("v1").await;
        assert!(world.held().await.is_empty());
        assert_eq!(world.calls(), ["create", "create", "create", "create"]);
    }
}

/// V8
#[tokio::test]
async fn waiting_has_a_maximum_age_then_is_held() {
    let lab = OnModel;
    let mut world = lab.world(vec![v(1), v(2)]).await;
    world.arrives("v1");
    // A worker handles it for a day, and renews its lease.
    world.run_to(0, "v1", "complete").await;
    world.arrives("v2");
    let day = epoch() + TimeDelta::hours(24);
    while world.held().await.is_empty() {
        assert!(
            world.lock().now < day + TimeDelta::minutes(5),
            "v2 waits for ever"
        );
        let waiting = world.lock().queue.len();
        if waiting > 0 {
            world.run_to(1, "v2", "end").await;
        } else {
            world.advance(10).await;
        }
    }
    assert!(world.lock().now >= day);
    assert_eq!(world.held().await, ["v2 wait_expired"]);
    let last = world.outcomes("v2").pop().expect("held");
    assert_eq!(
        last,
        "hold wait_expired (waited 24 h: another worker holds the record's lease)"
    );
    assert!(world.dead_letters().await.is_empty());
    world.resume(0, "v1", "end").await;
    world.ends_with("v1").await;
    world.released("v2").await;
    world.ends_with("v2").await;
}
