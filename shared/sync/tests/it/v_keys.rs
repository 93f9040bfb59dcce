//! Natural keys (V14 and V15 of docs/tests.md): one record per key, whoever made it first; what cannot be told apart is a
//! conflict that a person sees.

use sync::Record;

use crate::lab::{MAIL, both, v};
use crate::schedules::{content, event};
use crate::sim_store::SimStore;
use crate::world::World;

fn somebody_adds<S: SimStore + 'static>(world: &World<S>, name: &str) {
    let mut state = world.lock();
    let now = state.now;
    state
        .partner
        .person_adds(content(name, MAIL, &[]).fields, Vec::new(), now);
}

fn ids(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

both! {
    /// V14
    async fn two_links_one_key_make_one_record_and_one_conflict(lab) {
        let twin = || event("twin", 1, 1, content("twin", MAIL, &[]));
        // Both before the create, in either order; and one long after the other.
        for (first, second) in [("v1", "twin"), ("twin", "v1")] {
            let mut world = lab.world(vec![v(1), twin()]).await;
            world.arrives(first);
            world.arrives(second);
            world.run_to(0, first, "reserve").await;
            world.run_to(1, second, "end").await;
            world.resume(0, first, "end").await;
            world.ends_with(first).await;
            assert_eq!(world.calls(), ["create"]);
            assert_eq!(world.held().await, [format!("{second} conflict")]);
        }
        let mut world = lab.world(vec![v(1), twin()]).await;
        for event in ["v1", "twin"] {
            world.arrives(event);
            world.rest().await;
        }
        world.ends_with("v1").await;
        assert_eq!(world.link(1).await.row.state, "conflict");
        assert_eq!(world.held().await, ["twin conflict"]);
    }

    /// V14
    async fn target_id_is_unique(lab) {
        let moved = event("v2", 0, 2, content("n2", "b@x", &[]));
        let other = event("other", 1, 1, content("other", MAIL, &[]));
        let mut world = lab.world(vec![v(1), moved, other]).await;
        for event in ["v1", "v2"] {
            world.arrives(event);
            world.rest().await;
        }
        // A person gives our record the key that it has left: it is found by the other link, and is still ours.
        world.lock().partner.records[0].record.fields.insert("email".into(), MAIL.into());
        world.arrives("other");
        world.rest().await;
        assert_eq!(world.calls(), ["create", "update"]);
        assert_eq!(world.link(0).await.row.target_id.as_deref(), Some("p1"));
        let link = world.link(1).await;
        assert_eq!((link.row.state.as_str(), link.row.target_id), ("conflict", None));
        assert_eq!(world.held().await, ["other conflict"]);
    }

    /// V15
    async fn existing_record_is_adopted_before_create(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        somebody_adds(&world, "somebody");
        world.arrives("v1");
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["update"]);
        assert_eq!(ids(&world.live()), ["p1"]);
    }

    /// V15
    async fn two_existing_records_are_a_conflict(lab) {
        let mut world = lab.world(vec![v(1), v(2)]).await;
        somebody_adds(&world, "somebody");
        somebody_adds(&world, "double");
        world.arrives("v1");
        world.rest().await;
        assert!(world.calls().is_empty());
        assert_eq!(world.link(0).await.row.state, "conflict");
        assert_eq!(world.held().await, ["v1 conflict"]);
        // Settled by a person, it goes on with the newest; what waited with it is covered.
        world.arrives("v2");
        world.rest().await;
        assert_eq!(world.held().await, ["v2 conflict"]);
        world.lock().partner.records[1].removed = true;
        world.released("v2").await;
        world.ends_with("v2").await;
        assert!(world.held().await.is_empty());
        assert_eq!(ids(&world.live()), ["p1"]);
    }

    /// V15
    async fn search_hit_is_read_by_id_before_adoption(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        somebody_adds(&world, "somebody");
        {
            let mut state = world.lock();
            state.partner.records[0].removed = true;
            state.partner.stale_index = true;
        }
        world.arrives("v1");
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["create"]);
        assert_eq!(world.link(0).await.row.target_id.as_deref(), Some("p2"));
    }

    /// The newest content of a record that was in conflict about a key wants none of another record any more.
    async fn key_conflict_ends_when_the_newest_content_wants_no_key_of_another(lab) {
        let other = |n: u64, mail: &str| event(&format!("o{n}"), 1, n, content(&format!("o{n}"), mail, &[]));
        let mut world = lab.world(vec![v(1), other(1, "b@x"), other(2, MAIL), other(3, MAIL), other(4, "b@x")]).await;
        for event in ["v1", "o1", "o2"] {
            world.arrives(event);
            world.rest().await;
        }
        let link = world.link(1).await.row;
        assert_eq!((link.state.as_str(), link.conflict_cause.as_deref()), ("conflict", Some("key_taken")));
        world.arrives("o3");
        world.rest().await;
        assert_eq!(world.held().await, ["o3 conflict"], "it wants the key, too");
        world.arrives("o4");
        world.ends_with("o4").await;
        assert!(world.held().await.is_empty());
        assert_eq!(world.link(1).await.row.conflict_cause, None);
    }
}
