//! Looks that lag (docs/decisions/0014): what was made or changed, by us or by a person, is away for up to `LAG`, to
//! reads by id as well. A record is gone only after two looks, and a conflict about it ends when it is seen again.

use std::time::Duration;

use chrono::TimeDelta;

use crate::lab::{Lab, MAIL, both, deleted, named, v};
use crate::partner::Fault;
use crate::schedules::{content, event};
use crate::sim_store::SimStore;
use crate::world::{SimEvent, World};

const A_WAIT: &str = "the partner does not show the record now; its look-ups may lag";

/// Version n of record 0, which differs from the others in its parts only: it needs a look at the record.
fn parts(n: u64, parts: &[&str]) -> SimEvent {
    event(&format!("v{n}"), 0, n, content("name", MAIL, parts))
}

/// The partner hides what is written for 10 s.
async fn hiding<L: Lab>(lab: &L, events: Vec<SimEvent>) -> World<L::Store> {
    let world = lab.world(events).await;
    let mut state = world.lock();
    state.partner.hides = true;
    state.partner.lag = 10;
    state.partner.names_parts = true;
    drop(state);
    world
}

impl<S: SimStore + 'static> World<S> {
    fn person_saves(&self) {
        let mut state = self.lock();
        let now = state.now;
        let id = state.partner.records[0].record.id.clone();
        state.partner.person_saves(&id, now);
    }

    fn removed(&self, removed: bool) {
        self.lock().partner.records[0].removed = removed;
    }

    /// v1 has been written long ago; v2 needs a look at the record, which is not there any more, twice.
    async fn until_gone_conflict(&mut self) {
        self.arrives("v1");
        self.run_to(0, "v1", "end").await;
        self.advance(60).await;
        self.removed(true);
        self.arrives("v2");
        self.run_to(0, "v2", "end").await;
        assert_eq!(self.link(0).await.row.state, "linked", "one look");
        self.advance(15).await;
        self.run_to(0, "v2", "end").await;
        assert_eq!(self.conflict().await.as_deref(), Some("gone"));
        assert_eq!(self.held().await, ["v2 conflict"]);
    }

    async fn conflict(&self) -> Option<String> {
        let row = self.link(0).await.row;
        assert_eq!(row.state == "conflict", row.conflict_cause.is_some());
        row.conflict_cause
    }

    /// How long until the next re-check.
    async fn next_look(&self) -> Duration {
        let due = self.link(0).await.recheck_due.expect("a re-check is due");
        (due - self.lock().now).to_std().expect("not yet")
    }
}

both! {
    async fn one_miss_is_a_wait(lab) {
        // Our own write hides the record.
        let mut world = hiding(lab, vec![parts(1, &["A"]), parts(2, &["A", "B"])]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.arrives("v2");
        world.run_to(0, "v2", "end").await;
        assert!(world.outcomes("v2")[0].ends_with(&format!("({A_WAIT})")));
        assert_eq!(world.link(0).await.row.missing_since, None, "too early to count");
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "append_part"]);

        // A person hides it later, and again after that: each time one look.
        let versions = vec![parts(1, &["A"]), parts(2, &["A", "B"]), parts(3, &["A", "B", "C"])];
        let mut world = hiding(lab, versions).await;
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        for event in ["v2", "v3"] {
            world.advance(100).await;
            world.person_saves();
            world.arrives(event);
            world.run_to(0, event, "end").await;
            assert!(world.link(0).await.row.missing_since.is_some(), "the first look");
            world.ends_with(event).await;
            assert_eq!(world.link(0).await.row.missing_since, None, "it was seen");
        }

        // A look within the lag of our write does not count as the first one: a person may hide it just behind.
        let mut world = hiding(lab, vec![parts(1, &["A"]), parts(2, &["A", "B"])]).await;
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.arrives("v2");
        world.run_to(0, "v2", "end").await;
        world.advance(8).await;
        world.person_saves();
        world.advance(5).await;
        world.run_to(0, "v2", "end").await;
        assert_eq!(world.conflict().await, None);
        world.ends_with("v2").await;
    }

    /// A look that does not show it, long ago, is no first look once it was seen.
    async fn a_miss_is_forgotten_when_it_is_seen(lab) {
        let versions = vec![parts(1, &["A"]), parts(2, &["A", "B"]), parts(3, &["A", "B", "C"])];
        let mut world = hiding(lab, versions).await;
        world.lock().partner.refuses = vec!["B".into()];
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.advance(100).await;
        world.person_saves();
        world.arrives("v2");
        world.run_to(0, "v2", "end").await;
        world.advance(12).await;
        // Seen, and refused: nothing was written that would empty it.
        world.run_to(0, "v2", "end").await;
        assert_eq!(world.link(0).await.row.missing_since, None);
        world.ledger_takes_all().await;
        world.lock().partner.refuses.clear();
        world.advance(100).await;
        world.person_saves();
        world.arrives("v3");
        world.run_to(0, "v3", "end").await;
        assert_eq!(world.conflict().await, None);
        world.ends_with("v3").await;
    }

    async fn gone_conflict_ends_when_seen(lab) {
        let mut world = hiding(lab, vec![parts(1, &["A"]), parts(2, &["A", "B"])]).await;
        world.until_gone_conflict().await;
        for minutes in [1, 5, 60, 24 * 60, 24 * 60] {
            let next = world.next_look().await;
            assert_eq!(next, Duration::from_secs(60 * minutes), "the next look");
            world.advance(i64::try_from(next.as_secs()).expect("small")).await;
            assert!(world.janitor().await);
            world.run_to(0, "recheck 1", "end").await;
            assert_eq!(world.conflict().await.as_deref(), Some("gone"), "still");
        }
        world.removed(false);
        world.advance(24 * 3600).await;
        assert!(world.janitor().await);
        world.run_to(0, "recheck 1", "end").await;
        assert_eq!(world.conflict().await, None);
        assert_eq!(world.link(0).await.row.state, "linked");
        // As the keeper does, which sees a held event whose link is in no conflict.
        world.released("v2").await;
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "append_part"]);
    }

    async fn recheck_is_granted_in_conflict(lab) {
        let mut world = hiding(lab, vec![parts(1, &["A"]), parts(2, &["A", "B"])]).await;
        world.until_gone_conflict().await;
        world.advance(60).await;
        assert!(world.janitor().await);
        world.run_to(0, "recheck 1", "read").await;
        world.removed(false);
        world.resume(0, "recheck 1", "end").await;
        assert_eq!(world.conflict().await, None);

        // Of the others only a person knows the end.
        let mut world = lab.world(vec![v(1)]).await;
        world.lock().partner.script.push_back(Fault::TooLate);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.advance(80).await;
        world.run_to(0, "v1", "end").await;
        world.rest().await;
        assert_eq!(world.conflict().await.as_deref(), Some("second_record"));
        assert!(!world.janitor().await, "nobody asks");
    }

    /// Released by hand, it is looked for twice again before it is a conflict again.
    async fn a_released_gone_conflict_is_looked_at_anew(lab) {
        let mut world = hiding(lab, vec![parts(1, &["A"]), parts(2, &["A", "B"])]).await;
        world.until_gone_conflict().await;
        world.released("v2").await;
        world.advance(1).await;
        world.run_to(0, "v2", "end").await;
        assert_eq!(world.conflict().await, None);
        world.advance(12).await;
        world.run_to(0, "v2", "end").await;
        assert_eq!(world.conflict().await.as_deref(), Some("gone"));
    }

    /// A delete that failed, and a record that a person's edit hides just then: "gone" would confirm it, and it lives.
    async fn hidden_record_is_not_deleted(lab) {
        let mut world = hiding(lab, vec![v(1), deleted(2)]).await;
        world.lock().partner.deletes = true;
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.advance(60).await;
        // The delete fails, nothing is stored; a person's edit hides the record when it is looked for.
        world.lock().partner.script.push_back(Fault::Error);
        world.arrives("v2");
        world.run_to(0, "v2", "end").await;
        world.person_saves();
        world.advance(2).await;
        world.run_to(0, "v2", "end").await;
        assert_eq!(world.effects().await[1], "v2 delete unknown last", "one look proves nothing");
        world.rest().await;
        assert_eq!(world.link(0).await.row.state, "deleted");
        assert_eq!(world.live().len(), 0, "it is deleted in truth");
        assert_eq!(world.calls(), ["create", "delete", "delete"]);
    }

    /// A part that was added is not added again because its record is away when the settle time is over.
    async fn hidden_append_is_not_sent_again(lab) {
        let mut world = hiding(lab, vec![parts(1, &["A"]), parts(2, &["A", "B"])]).await;
        world.lock().partner.script.extend([Fault::None, Fault::Lost]);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.advance(60).await;
        world.arrives("v2");
        world.run_to(0, "v2", "no answer").await;
        world.crash(0);
        world.advance(100).await;
        world.person_saves();
        world.run_to(0, "v2", "end").await;
        assert_eq!(world.effects().await[1], "v2 append_part sent last");
        world.ends_with("v2").await;
        assert_eq!(world.calls(), ["create", "append_part"]);
    }

    /// a, b, and a again, which is not stored. The look shows the first a, from before b was written.
    async fn old_copy_is_no_proof(lab) {
        let mut world = lab.world(vec![named(1, "a"), named(2, "b"), named(3, "a")]).await;
        {
            let mut state = world.lock();
            state.partner.shows_late = true;
            state.partner.lag = 10;
            state.partner.script.extend([Fault::None, Fault::None, Fault::Error]);
        }
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        world.advance(60).await;
        for event in ["v2", "v3"] {
            world.arrives(event);
            world.run_to(0, event, "end").await;
        }
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create", "update", "update", "update"]);
        let state = world.lock();
        assert_eq!(state.partner.records[0].record.fields["name"], "a");
    }

    /// A record that was given up without a call, and comes back before the partner shows it, is not made a second time.
    async fn hidden_former_record_is_not_made_again(lab) {
        let mut world = hiding(lab, vec![v(1), deleted(2), v(3)]).await;
        for event in ["v1", "v2", "v3"] {
            world.arrives(event);
            world.run_to(0, event, "end").await;
        }
        world.ends_with("v3").await;
        assert_eq!(world.calls(), ["create", "update"]);
    }

    /// What an index shows and a read by id does not is gone only after two looks, too.
    async fn a_hit_that_is_hidden_is_not_made_again(lab) {
        let mut world = lab.world(vec![v(1)]).await;
        {
            let mut state = world.lock();
            let long_ago = state.now - TimeDelta::seconds(60);
            let fields = content("somebody", MAIL, &[]).fields;
            state.partner.person_adds(fields, Vec::new(), long_ago);
            state.partner.stale_index = true;
        }
        world.removed(true);
        world.arrives("v1");
        world.run_to(0, "v1", "end").await;
        assert_eq!(world.calls(), Vec::<&str>::new());
        world.removed(false);
        world.ends_with("v1").await;
        assert_eq!(world.calls(), ["update"]);
    }
}
