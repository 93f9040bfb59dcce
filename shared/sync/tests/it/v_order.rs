//! Order, content and deletions (V9 to V12 of docs/tests.md): what the newest event says is the end, in every order.

use crate::lab::{MAIL, both, deleted, named, v, v_parts};
use crate::partner::Fault;
use crate::schedules::{content, event};
use crate::world::{SimEvent, epoch_seconds};

/// All orders of these.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for at in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(at);
        for mut order in orders(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

fn tie(id: &str) -> SimEvent {
    event(id, 0, 2, content(&format!("name of {id}"), MAIL, &[]))
}

both! {
    /// V9
    async fn same_content_is_no_shortcut_while_an_effect_is_open(lab) {
        let mut world = lab.world(vec![named(1, "a"), named(2, "b"), named(3, "a")]).await;
        world.arrives("v1");
        world.ends_with("v1").await;
        world.lock().partner.script.push_back(Fault::Late(40));
        world.arrives("v2");
        world.run_to(0, "v2", "end").await;
        world.arrives("v3");
        world.run_to(1, "v3", "end").await;
        assert_eq!(world.applied(0).await, "v1", "b may still come");
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create", "update", "update"]);
    }

    /// V10
    async fn delete_waits_for_an_open_create(lab) {
        for deletes in [false, true] {
            let mut world = lab.world(vec![v(1), deleted(4)]).await;
            world.lock().partner.deletes = deletes;
            world.lock().partner.script.push_back(Fault::Late(50));
            world.arrives("v1");
            world.run_to(0, "v1", "end").await;
            world.arrives("v4");
            world.run_to(1, "v4", "end").await;
            assert_eq!(world.link(0).await.row.state, "pending", "the create may still come");
            world.rest().await;
            let link = world.link(0).await;
            assert_eq!(link.row.state, "deleted");
            assert_eq!(link.row.target_id, None);
            assert_eq!(world.applied(0).await, "v4");
            assert_eq!(link.row.former_target_id.as_deref(), Some("p1"), "it is known which record it was");
            assert_eq!(world.live().len(), usize::from(!deletes));
            assert_eq!(world.calls(), if deletes { vec!["create", "delete"] } else { vec!["create"] });
        }
    }

    /// V10
    async fn delete_before_create_leaves_a_tombstone(lab) {
        for deletes in [false, true] {
            let mut world = lab.world(vec![v(1), deleted(4)]).await;
            world.lock().partner.deletes = deletes;
            world.arrives("v4");
            world.rest().await;
            world.arrives("v1");
            world.rest().await;
            assert_eq!(world.verdicts("v1"), ["Duplicate"]);
            assert_eq!(world.link(0).await.row.state, "deleted");
            assert_eq!(world.applied(0).await, "v4");
            assert!(world.calls().is_empty());
        }
    }

    /// V10
    async fn recreate_after_delete_makes_one_record(lab) {
        for deletes in [false, true] {
            let mut world = lab.world(vec![v(1), deleted(2), v(3)]).await;
            {
                let mut state = world.lock();
                state.partner.deletes = deletes;
                // The index shows what is gone and not yet what is new.
                state.partner.stale_index = true;
                state.partner.lag = 10;
            }
            for event in ["v1", "v2"] {
                world.arrives(event);
                world.rest().await;
            }
            assert_eq!(world.link(0).await.row.state, "deleted");
            world.arrives("v3");
            world.ends_with("v3").await;
            assert_eq!(world.live().len(), 1);
            assert_eq!(
                world.calls(),
                if deletes { vec!["create", "delete", "create"] } else { vec!["create", "update"] }
            );
        }
        // A deletion whose answer is lost is proven by its absence, not sent again.
        let mut world = lab.world(vec![v(1), deleted(2), v(3)]).await;
        world.lock().partner.deletes = true;
        world.arrives("v1");
        world.rest().await;
        world.lock().partner.script.push_back(Fault::Lost);
        world.arrives("v2");
        world.run_to(0, "v2", "end").await;
        world.arrives("v3");
        world.run_to(1, "v3", "end").await;
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create", "delete", "create"]);
    }

    /// V11
    async fn tombstone_wins_a_tie(lab) {
        for order in orders(&["a2", "z2"]) {
            // The deletion's id is the smaller one: only its rank can win.
            let deletion = SimEvent { id: "a2".into(), ..deleted(2) };
            let mut world = lab.world(vec![v(1), tie("z2"), deletion]).await;
            world.arrives("v1");
            world.rest().await;
            for event in order {
                world.arrives(event);
                world.rest().await;
            }
            assert_eq!(world.link(0).await.row.state, "deleted");
            assert_eq!(world.applied(0).await, "a2");
        }
    }

    /// V11
    async fn equal_versions_end_alike_in_every_order(lab) {
        for order in orders(&["va", "vb", "vc"]) {
            let mut world = lab.world(vec![tie("va"), tie("vb"), tie("vc")]).await;
            for event in &order {
                world.arrives(event);
            }
            // The first two are handled before the third is seen.
            world.run_to(0, order[0], "end").await;
            world.run_to(0, order[1], "end").await;
            world.ends_with("vc").await;
        }
    }

    /// V12
    async fn future_version_dies_without_touching_the_link(lab) {
        let far = SimEvent {
            version: Some(epoch_seconds() + 301),
            ..named(9, "from the future")
        };
        let mut world = lab.world(vec![far, v(1)]).await;
        world.arrives("v9");
        world.rest().await;
        assert_eq!(world.dead_letters().await, ["v9 open future_version"]);
        assert!(world.links().await.is_empty());
        world.arrives("v1");
        world.ends_with("v1").await;

        // Inside the limit it is a version like any other.
        let near = SimEvent {
            version: Some(epoch_seconds() + 299),
            ..v_parts(9, &["A"])
        };
        let mut world = lab.world(vec![near]).await;
        world.arrives("v9");
        world.ends_with("v9").await;
        assert!(world.dead_letters().await.is_empty());
    }

    /// V12: replayed with the time of its replay as its version.
    async fn restamp_applies_it(lab) {
        let far = SimEvent {
            version: Some(epoch_seconds() + 100_000),
            ..named(9, "from the future")
        };
        // Of a record that was there before, that came meanwhile, and that is made by the replay.
        for order in [vec!["v1", "v9"], vec!["v9", "v1"], vec!["v9"]] {
            let mut world = lab.world(vec![far.clone(), v(1)]).await;
            for event in order {
                world.arrives(event);
                world.rest().await;
            }
            assert_eq!(world.dead_letters().await, ["v9 open future_version"]);
            world.lock().events[0].version = Some(epoch_seconds());
            world.replayed("v9").await;
            world.ends_with("v9").await;
            assert_eq!(world.applied(0).await, "v9 gen 1");
            assert_eq!(world.dead_letters().await, ["v9 resolved future_version"]);
        }
    }
}
