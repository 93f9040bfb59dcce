//! Content never dies with a newer event (V7, V20, V22 and V32 of docs/tests.md): the dead-letter transaction, holds and
//! what a broker kills by itself.

use worker::HoldCause;

use crate::lab::{both, named, v};
use crate::partner::Fault;
use crate::world::DELIVERY_LIMIT;

/// The broker has had enough of it: it comes back, before any claim, until its limit is reached.
macro_rules! until_the_limit {
    ($world:ident, $event:literal) => {
        for _ in 0..=DELIVERY_LIMIT {
            if $world.queued($event) {
                $world.run_to(2, $event, "start").await;
                $world.crash(2);
            }
        }
        assert!(!$world.queued($event), "the broker has dead-lettered it");
    };
}

both! {
    /// V7
    async fn superseded_content_returns_when_the_newer_dies_arrived_before(lab) {
        let mut world = lab.world(vec![v(1), v(2), v(3)]).await;
        world.lock().partner.refuses = vec!["n3".into()];
        world.arrives("v3");
        world.run_to(0, "v3", "reserve").await;
        for event in ["v1", "v2"] {
            world.arrives(event);
            world.run_to(1, event, "end").await;
            assert_eq!(world.verdicts(event), ["Superseded"]);
        }
        world.ends_with("v2").await;
        assert_eq!(world.dead_letters().await, ["v3 open refused"]);
        assert_eq!(world.kept().await, 0, "v1 is covered");
        assert_eq!(world.calls(), ["create", "create"]);
    }

    /// V7
    async fn superseded_content_returns_when_the_newer_dies_arrived_after(lab) {
        // Before the ledger has seen the dead copy, and after it.
        for before_the_ledger in [true, false] {
            let mut world = lab.world(vec![v(1), v(2), v(3)]).await;
            world.lock().partner.refuses = vec!["n3".into()];
            world.arrives("v3");
            world.run_to(0, "v3", "end").await;
            if !before_the_ledger {
                world.ledger_takes_all().await;
            }
            for event in ["v1", "v2"] {
                world.arrives(event);
                world.run_to(1, event, "end").await;
            }
            world.ledger_takes_all().await;
            world.ends_with("v2").await;
            assert_eq!(world.dead_letters().await, ["v3 open refused"]);
        }
    }

    /// V7
    async fn also_when_they_coalesced_while_held(lab) {
        for order in [["v1", "v2"], ["v2", "v1"]] {
            let mut world = lab.world(vec![v(1), v(2)]).await;
            {
                let mut state = world.lock();
                state.withheld = Some(HoldCause::Suspended);
                state.partner.refuses = vec!["n2".into()];
            }
            // Both have claimed before either is held: their rows coalesce, or the older one is superseded.
            for event in order {
                world.arrives(event);
                world.run_to(0, event, "end").await;
            }
            assert_eq!(world.held().await, ["v2 suspended"]);
            world.lock().withheld = None;
            world.released("v2").await;
            world.ends_with("v1").await;
            assert_eq!(world.dead_letters().await, ["v2 open refused"]);
            assert!(world.held().await.is_empty());
        }
    }

    /// V7
    async fn discarded_held_event_falls_back_too(lab) {
        let mut world = lab.world(vec![v(1), v(2)]).await;
        world.lock().withheld = Some(HoldCause::Suspended);
        for event in ["v1", "v2"] {
            world.arrives(event);
            world.run_to(0, event, "end").await;
        }
        assert_eq!(world.desired(0).await, "v2");
        world.lock().withheld = None;
        world.discarded("v2").await;
        assert_eq!(world.desired(0).await, "v1");
        world.ends_with("v1").await;
        assert_eq!(world.dead_letters().await, ["v2 discarded suspended"]);
        // A copy of what was given up begins nothing.
        world.arrives("v2");
        world.ends_with("v1").await;
        assert_eq!(world.verdicts("v2"), ["Stale"]);
    }

    /// V20
    async fn delivery_limit_runs_the_dead_letter_transaction(lab) {
        let mut world = lab.world(vec![v(1), v(2), v(3)]).await;
        world.arrives("v3");
        world.run_to(0, "v3", "reserve").await;
        world.crash(0);
        for event in ["v1", "v2"] {
            world.arrives(event);
            world.run_to(1, event, "end").await;
            assert_eq!(world.verdicts(event), ["Superseded"]);
        }
        until_the_limit!(world, "v3");
        world.ends_with("v2").await;
        assert_eq!(world.dead_letters().await, ["v3 open delivery_limit"]);
    }

    /// V22
    async fn newer_version_closes_older_dead_letters(lab) {
        let mut world = lab.world(vec![v(1), v(2), v(3)]).await;
        world.lock().partner.refuses = vec!["n2".into()];
        for event in ["v1", "v2"] {
            world.arrives(event);
            world.rest().await;
        }
        assert_eq!(world.dead_letters().await, ["v2 open refused"]);
        world.arrives("v3");
        world.ends_with("v3").await;
        assert_eq!(world.dead_letters().await, ["v2 overtaken refused"]);

        // By an ending without a call as well.
        let mut world = lab.world(vec![named(1, "same"), v(2), named(3, "same")]).await;
        world.lock().partner.refuses = vec!["n2".into()];
        for event in ["v1", "v2", "v3"] {
            world.arrives(event);
            world.rest().await;
        }
        assert_eq!(world.dead_letters().await, ["v2 overtaken refused"]);
        assert_eq!(world.applied(0).await, "v3");
    }

    /// V22
    async fn refused_copy_of_an_applied_version_is_not_dead_lettered(lab) {
        let mut world = lab.world(vec![v(3)]).await;
        world.lock().partner.refuses = vec!["n3".into()];
        world.arrives("v3");
        world.run_to(0, "v3", "end").await;
        world.lock().partner.refuses.clear();
        // The dead copy is still on its way to the ledger.
        world.arrives("v3");
        world.run_to(1, "v3", "end").await;
        assert_eq!(world.applied(0).await, "v3");
        world.ledger_takes_all().await;
        world.ends_with("v3").await;
        assert!(world.dead_letters().await.is_empty());
    }

    /// V32
    async fn broker_death_after_release_before_copy_finds_the_link(lab) {
        let mut world = lab.world(vec![v(1), v(3)]).await;
        world.lock().partner.script.push_back(Fault::Refused);
        world.arrives("v3");
        world.run_to(0, "v3", "copy").await;
        let link = world.link(0).await;
        assert_eq!(link.row.lease_token, None, "the lease is given back before the copy is out");
        assert_eq!(world.unsettled().await, 0);
        world.crash(0);
        world.arrives("v1");
        world.run_to(1, "v1", "end").await;
        assert_eq!(world.verdicts("v1"), ["Superseded"]);
        until_the_limit!(world, "v3");
        world.ends_with("v1").await;
        assert_eq!(world.dead_letters().await, ["v3 open crash_neighbour"]);
    }

    /// V32
    async fn broker_death_of_an_applied_event_is_closed(lab) {
        let mut world = lab.world(vec![v(3)]).await;
        world.arrives("v3");
        world.run_to(0, "v3", "ack").await;
        world.crash(0);
        until_the_limit!(world, "v3");
        world.ends_with("v3").await;
        assert!(world.dead_letters().await.is_empty());

        // The same of a replay: its dead letter is closed, not opened again.
        let mut world = lab.world(vec![v(3)]).await;
        world.lock().partner.refuses = vec!["n3".into()];
        world.arrives("v3");
        world.rest().await;
        world.lock().partner.refuses.clear();
        world.replayed("v3").await;
        world.advance(1).await;
        world.run_to(0, "v3", "ack").await;
        assert_eq!(world.applied(0).await, "v3 gen 1");
        world.crash(0);
        until_the_limit!(world, "v3");
        world.ends_with("v3").await;
        assert_eq!(world.dead_letters().await, ["v3 resolved refused"]);
    }

    /// 1.7: seventeen newer ones die before anything newer is applied.
    async fn cap_falls_back_to_history(lab) {
        let newest = 18;
        let mut world = lab.world((1..=newest).map(v).collect()).await;
        world.lock().partner.refuses = (2..=newest).map(|n| format!("n{n}")).collect();
        world.arrives("v18");
        world.run_to(0, "v18", "reserve").await;
        for n in 1..newest {
            let event = format!("v{n}");
            world.arrives(&event);
            world.run_to(1, &event, "end").await;
            assert_eq!(world.verdicts(&event), ["Superseded"]);
        }
        assert_eq!(world.kept().await, 16, "v1 stands in the history only");
        world.ends_with("v1").await;
        assert_eq!(world.dead_letters().await.len(), 17);
    }
}
