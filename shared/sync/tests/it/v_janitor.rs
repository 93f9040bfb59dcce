//! What no event comes back for (V36, R1, R3 and R5 of docs/tests.md): the janitor asks, and what a look concludes is guarded
//! like an ending.

use crate::lab::{MAIL, both, v, v_parts};
use crate::partner::Fault;
use crate::schedules::{content, event};
use crate::world::DELIVERY_LIMIT;

both! {
    async fn janitor_resolves_an_effect_nobody_returns_to(lab) {
        for fault in [Fault::Lost, Fault::Late(50)] {
            let mut world = lab.world(vec![v(1)]).await;
            world.lock().partner.script.push_back(fault);
            world.arrives("v1");
            world.run_to(0, "v1", "no answer").await;
            world.crash(0);
            world.lose("v1");
            assert!(!world.janitor().await, "not before the settle time");
            world.ends_with("v1").await;
            assert_eq!(world.effects().await, ["v1 create confirmed last"]);
        }
        // Nothing was stored: the effect is given up, and nobody is left to send it again.
        let mut world = lab.world(vec![v(1)]).await;
        world.lock().partner.script.push_back(Fault::Error);
        world.arrives("v1");
        world.run_to(0, "v1", "no answer").await;
        world.crash(0);
        world.lose("v1");
        world.rest().await;
        assert_eq!(world.effects().await, ["v1 create abandoned last"]);
        assert_eq!(world.calls(), ["create"]);
    }

    /// V36
    async fn frozen_recheck_raises_no_conflict(lab) {
        let mut world = lab.world(vec![v(1), v(2)]).await;
        world.lock().partner.script.push_back(Fault::TooLate);
        world.arrives("v1");
        world.run_to(0, "v1", "no answer").await;
        world.crash(0);
        for _ in 0..DELIVERY_LIMIT {
            world.run_to(0, "v1", "start").await;
            world.crash(0);
        }
        world.ledger_takes_all().await;
        assert_eq!(world.dead_letters().await, ["v1 open delivery_limit"]);
        world.advance(80).await;
        world.janitor_to(0, "resolve 1", "end").await;
        assert_eq!(world.effects().await, ["v1 create abandoned last"]);
        world.advance(70).await;
        // One record, no target, nobody to come: an orphan. So it reads, and is frozen.
        world.janitor_to(0, "recheck 1", "finish").await;
        world.freeze(0, 100);
        world.arrives("v2");
        world.advance(40).await;
        world.run_to(1, "v2", "end").await;
        assert_eq!(world.applied(0).await, "v2");
        world.advance(70).await;
        world.resume(0, "recheck 1", "end").await;
        assert_eq!(world.link(0).await.row.state, "linked");
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "update"]);

        // Not frozen, it is right.
        let mut world = lab.world(vec![v(1), v(2)]).await;
        world.lock().partner.script.push_back(Fault::TooLate);
        world.arrives("v1");
        world.run_to(0, "v1", "no answer").await;
        world.crash(0);
        for _ in 0..DELIVERY_LIMIT {
            world.run_to(0, "v1", "start").await;
            world.crash(0);
        }
        world.ledger_takes_all().await;
        world.advance(80).await;
        world.janitor_to(0, "resolve 1", "end").await;
        world.rest().await;
        assert_eq!(world.link(0).await.row.state, "conflict", "an orphan");
    }

    /// R1
    async fn recheck_finds_a_second_record(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        world.lock().partner.script.push_back(Fault::TooLate);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.advance(80).await;
        world.run_to(0, "v1", "end").await;
        world.rest().await;
        assert_eq!(world.calls(), ["create", "create"]);
        assert_eq!(world.live().len(), 2, "beyond the contract: two records");
        assert_eq!(world.link(0).await.row.state, "conflict", "and a person sees them");
        assert_eq!(world.applied(0).await, "v1");
    }

    /// R1a
    async fn recheck_finds_a_part_that_stands_twice(lab) {
        let mut world = lab.world(vec![v_parts(1, &["A", "B"])]).await;
        world.lock().partner.names_parts = true;
        world.lock().partner.script.extend([Fault::None, Fault::TooLate]);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.advance(80).await;
        world.run_to(0, "v1", "end").await;
        world.rest().await;
        assert_eq!(world.calls(), ["create", "append_part", "append_part"]);
        assert_eq!(world.live()[0].parts.len(), 3, "beyond the contract: B twice");
        assert_eq!(world.link(0).await.row.state, "conflict");
    }

    /// R3
    async fn recheck_writes_base_over_our_older_content(lab) {
        let mut world = lab.world(vec![v(1), v(2), v(3)]).await;
        world.arrives("v1");
        world.ends_with("v1").await;
        world.lock().partner.script.push_back(Fault::TooLate);
        world.arrives("v2");
        world.run_to(0, "v2", "end").await;
        world.advance(80).await;
        world.run_to(0, "v2", "end").await;
        world.arrives("v3");
        world.run_to(0, "v3", "end").await;
        assert_eq!(world.live()[0].fields["name"], "n3");
        world.advance(30).await;
        assert_eq!(world.live()[0].fields["name"], "n2", "beyond the contract: the old call committed");
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create", "update", "update", "update", "update"]);
    }

    /// R5: a refusal that stored something is found by the next event.
    async fn refusal_that_stored_is_adopted_by_the_next_event(lab) {
        let mut world = lab.world(vec![v(1), v(2)]).await;
        world.lock().partner.script.push_back(Fault::Lying);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.ledger_takes_all().await;
        assert_eq!(world.dead_letters().await, ["v1 open refused"]);
        world.arrives("v2");
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "update"]);
        assert_eq!(world.dead_letters().await, ["v1 overtaken refused"]);
    }

    /// R5: also where the next event has other keys.
    async fn refusal_that_stored_is_found_by_the_keys_it_was_sent_with(lab) {
        let moved = || event("v2", 0, 2, content("n2", "b@x", &[]));
        let mut world = lab.world(vec![v(1), moved()]).await;
        world.lock().partner.script.push_back(Fault::Lying);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.ledger_takes_all().await;
        world.arrives("v2");
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "update"]);
        assert_eq!(world.live().len(), 1);

        // What has other content is somebody's, and stays as it is.
        let mut world = lab.world(vec![v(1), moved()]).await;
        world.lock().partner.refuses = vec!["n1".into()];
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.ledger_takes_all().await;
        let now = world.lock().now;
        world.lock().partner.person_adds(content("somebody", MAIL, &[]).fields, Vec::new(), now);
        world.arrives("v2");
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "create"]);
        assert_eq!(world.live()[0].fields["name"], "somebody");

        // So is what another link found by that key meanwhile.
        let twin = event("twin", 1, 1, content("n1", MAIL, &[]));
        let mut world = lab.world(vec![v(1), moved(), twin]).await;
        world.lock().partner.script.push_back(Fault::Lying);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.ledger_takes_all().await;
        world.arrives("twin");
        world.run_to(0, "twin", "end").await;
        world.arrives("v2");
        world.ends_with("v2").await;
        assert_eq!(world.live().len(), 2);
        assert_eq!(world.link(0).await.row.state, "linked");
        assert_eq!(world.link(1).await.row.target_id.as_deref(), Some("p1"));
    }

    /// R1 and R5: what shows only after the record was made anew with other keys is seen by the re-check.
    async fn recheck_looks_by_the_keys_of_calls_that_were_given_up(lab) {
        let moved = event("v2", 0, 2, content("n2", "b@x", &[]));
        let mut world = lab.world(vec![v(1), moved]).await;
        world.lock().partner.script.push_back(Fault::TooLate);
        world.arrives("v1");
        world.run_to(0, "v1", "no answer").await;
        world.crash(0);
        world.lose("v1");
        world.advance(80).await;
        world.janitor_to(0, "resolve 1", "end").await;
        world.arrives("v2");
        world.run_to(0, "v2", "end").await;
        assert_eq!(world.calls(), ["create", "create"]);
        world.rest().await;
        assert_eq!(world.live().len(), 2, "beyond the contract: two records");
        assert_eq!(world.link(0).await.row.state, "conflict", "and a person sees them");
    }
}
