//! What the directed tests share: a world on the model and one on Postgres, events by short names, and how an end is
//! judged. A test written with `both!` runs on the model, then on the real SQL functions, compared with the model
//! step by step.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sync::{Content, Record, Settings};

use crate::model::Model;
use crate::postgres::Postgres;
use crate::schedules::{content, event, part};
use crate::sim_store::{Both, LinkView, SimStore};
use crate::world::{Msg, Poison, SOURCE, SimEvent, What, World};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const MAIL: &str = "a@x";

/// Makes empty worlds, as many as a test wants, one at a time.
pub(crate) trait Lab {
    type Store: SimStore + 'static;

    fn store(&self) -> BoxFuture<'_, Self::Store>;

    /// A step costs a round trip: fewer of many similar schedules are enough.
    fn is_slow(&self) -> bool {
        false
    }

    /// Three processes of two handlers; the schedule's dice always fall the same way.
    fn world(&self, events: Vec<SimEvent>) -> impl Future<Output = World<Self::Store>> {
        async move {
            let mut world = World::new(self.store().await, events, 3, 1, Settings::default()).await;
            world.publishes_twice = false;
            world
        }
    }
}

pub(crate) struct OnModel;

impl Lab for OnModel {
    type Store = Model;

    fn store(&self) -> BoxFuture<'_, Model> {
        std::future::ready(Model::new(LEASE)).boxed()
    }
}

pub(crate) struct OnPostgres {
    store: Postgres,
    database: testkit::Database,
}

impl OnPostgres {
    pub(crate) async fn new() -> Self {
        let database = testkit::database().await;
        let store = Postgres::connect(database.url(), LEASE).await;
        Self { store, database }
    }

    pub(crate) fn pool(&self) -> &sqlx::PgPool {
        self.database.pool()
    }
}

impl Lab for OnPostgres {
    type Store = Both<Postgres, Model>;

    fn is_slow(&self) -> bool {
        true
    }

    fn store(&self) -> BoxFuture<'_, Self::Store> {
        async move {
            self.store.empty().await;
            Both {
                left: self.store.with_lease(LEASE),
                right: Model::new(LEASE),
            }
        }
        .boxed()
    }
}

macro_rules! both {
    ($($(#[$doc:meta])* async fn $name:ident($lab:ident) $body:block)+) => {$(
        $(#[$doc])*
        #[tokio::test]
        async fn $name() {
            async fn schedule<L: crate::lab::Lab>($lab: &L) $body
            schedule(&crate::lab::OnModel).await;
            schedule(&crate::lab::OnPostgres::new().await).await;
        }
    )+};
}
pub(crate) use both;

/// Version n of record 0: event `vn` with the name `nn`.
pub(crate) fn v(n: u64) -> SimEvent {
    v_parts(n, &[])
}

pub(crate) fn v_parts(n: u64, parts: &[&str]) -> SimEvent {
    event(
        &format!("v{n}"),
        0,
        n,
        content(&format!("n{n}"), MAIL, parts),
    )
}

/// Version n of record 0, with this name.
pub(crate) fn named(n: u64, name: &str) -> SimEvent {
    event(&format!("v{n}"), 0, n, content(name, MAIL, &[]))
}

pub(crate) fn poison(n: u64, poison: Poison) -> SimEvent {
    SimEvent {
        poison: Some(poison),
        ..v(n)
    }
}

/// The deletion of record 0 as version n.
pub(crate) fn deleted(n: u64) -> SimEvent {
    SimEvent {
        tombstone: true,
        ..event(&format!("v{n}"), 0, n, Content::default())
    }
}

impl<S: SimStore + 'static> World<S> {
    /// A copy of this event is in the queue.
    pub(crate) fn arrives(&self, event: &str) {
        let index = self.index(event);
        self.publish(index);
    }

    /// A copy of this event lies in the queue.
    pub(crate) fn queued(&self, event: &str) -> bool {
        let index = self.index(event);
        let state = self.lock();
        let of = |msg: &Msg| matches!(msg.what, What::Event { index: of, .. } if of == index);
        state.queue.iter().any(of)
    }

    /// Envelopes kept of superseded events.
    pub(crate) async fn kept(&self) -> usize {
        self.store.snapshot().await.kept
    }

    pub(crate) async fn discarded(&self, event: &str) {
        assert!(
            self.store.discard(event.into()).await,
            "{event} is not held"
        );
    }

    fn index(&self, event: &str) -> usize {
        let state = self.lock();
        let index = state.events.iter().position(|it| it.id == event);
        index.unwrap_or_else(|| panic!("no event {event}"))
    }

    pub(crate) async fn links(&self) -> Vec<LinkView> {
        self.store.snapshot().await.links
    }

    pub(crate) async fn link(&self, record: usize) -> LinkView {
        let links = self.links().await;
        let name = format!("r{record}");
        let link = links.into_iter().find(|link| link.row.source_id == name);
        link.unwrap_or_else(|| panic!("no link of {name}"))
    }

    /// The event whose content is applied: `v3`, or `v3 gen 1`.
    pub(crate) async fn applied(&self, record: usize) -> String {
        named_key(self.link(record).await.row.applied_k.as_ref())
    }

    pub(crate) async fn desired(&self, record: usize) -> String {
        named_key(self.link(record).await.row.desired_k.as_ref())
    }

    /// `v3 create unknown`, and `last` behind it where it is.
    pub(crate) async fn effects(&self) -> Vec<String> {
        let effects = self.store.snapshot().await.effects;
        let shown = effects.into_iter().map(|effect| {
            let last = if effect.last { " last" } else { "" };
            format!(
                "{} {} {}{last}",
                effect.event_id, effect.operation, effect.state
            )
        });
        shown.collect()
    }

    /// `v3 open refused`.
    pub(crate) async fn dead_letters(&self) -> Vec<String> {
        let dead = self.store.snapshot().await.dead;
        dead.into_iter()
            .map(|dead| format!("{} {} {}", dead.event_id, dead.state, dead.class))
            .collect()
    }

    /// Calls of a dead event that were confirmed before it died.
    pub(crate) async fn partly_applied(&self, event: &str) -> Vec<String> {
        let dead = self.store.snapshot().await.dead;
        let dead = dead.into_iter().find(|dead| dead.event_id == event);
        dead.unwrap_or_else(|| panic!("{event} is not dead")).partly
    }

    /// Somebody adds an address to a record of the partner.
    pub(crate) fn person_adds_part(&self, record: usize, street: &str) {
        self.lock().partner.person_adds_part(record, part(street));
    }

    /// `v3 poison`.
    pub(crate) async fn held(&self) -> Vec<String> {
        let held = self.store.snapshot().await.held;
        held.into_iter()
            .map(|held| format!("{} {}", held.event_id, held.reason))
            .collect()
    }

    /// Writing calls that reached the partner.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        let state = self.lock();
        state.partner.calls.iter().map(|it| it.as_str()).collect()
    }

    /// Records that are not deleted.
    pub(crate) fn live(&self) -> Vec<Record> {
        let state = self.lock();
        let live = state
            .partner
            .records
            .iter()
            .filter(|stored| !stored.removed);
        live.map(|stored| stored.record.clone()).collect()
    }

    /// How the deliveries of this event ended so far.
    pub(crate) fn outcomes(&self, event: &str) -> Vec<String> {
        let state = self.lock();
        let of = state.outcomes.iter().filter(|(id, _)| id == event);
        of.map(|(_, outcome)| outcome.clone()).collect()
    }

    /// What claims that were no grant answered.
    pub(crate) fn verdicts(&self, event: &str) -> Vec<String> {
        let state = self.lock();
        let of = state.acks.iter().filter(|(id, _)| id == event);
        of.map(|(_, verdict)| verdict.clone()).collect()
    }

    /// Claims that were taken over and have not come back.
    pub(crate) async fn unsettled(&self) -> usize {
        self.store.snapshot().await.unsettled
    }

    pub(crate) fn kills(&self, event: &str) -> u32 {
        self.lock().kills.get(event).copied().unwrap_or_default()
    }

    pub(crate) async fn released(&self, event: &str) {
        let released = self.store.release_held(SOURCE.into(), event.into()).await;
        assert!(released, "{event} is not held");
    }

    pub(crate) async fn replayed(&self, event: &str) {
        let dead = self.store.snapshot().await.dead;
        let dead = dead.iter().find(|dead| dead.event_id == event);
        let id = dead.unwrap_or_else(|| panic!("{event} is not dead")).id;
        assert!(self.store.replay(id).await, "{event} is not open");
    }

    /// Steps the janitor's request to this process until it stands before `op`.
    pub(crate) async fn janitor_to(&mut self, process: usize, request: &str, op: &str) {
        self.janitor().await;
        self.run_to(process, request, op).await;
    }

    /// Nothing is left to do, and the partner has this event's content and nothing else of ours: one record, each part
    /// once, the link on it and past the event, no effect open.
    pub(crate) async fn ends_with(&mut self, event: &str) {
        self.rest().await;
        self.shows(event).await;
    }

    /// As `ends_with`, of now.
    pub(crate) async fn shows(&self, event: &str) {
        assert!(self.idle(), "not at rest");
        let index = self.index(event);
        let wanted = self.lock().events[index].clone();
        let link = self.link(wanted.record).await;
        assert!(!link.open, "an effect is open at rest");
        assert_eq!(link.row.state, "linked", "state of the link");
        let mail = wanted.content.fields["email"].clone();
        let live: Vec<Record> = self
            .live()
            .into_iter()
            .filter(|record| record.fields.get("email") == mail.as_ref())
            .collect();
        assert_eq!(live.len(), 1, "records with the key of {event}: {live:#?}");
        let record = &live[0];
        assert_eq!(link.row.target_id.as_ref(), Some(&record.id));
        for (name, value) in &wanted.content.fields {
            assert_eq!(record.fields.get(name), value.as_ref(), "{name}");
        }
        let signatures = |wanted: &str| {
            let all = record.parts.iter().map(|shown| shown.part.signature());
            all.filter(|signature| signature == wanted).count()
        };
        for part in wanted.content.parts.values().flatten() {
            assert_eq!(signatures(&part.signature()), 1, "{part:?} stands once");
        }
        for shown in &record.parts {
            assert_eq!(
                signatures(&shown.part.signature()),
                1,
                "{shown:?} stands once"
            );
        }
        let applied = self.applied(wanted.record).await;
        assert!(
            applied == event || applied.starts_with(&format!("{event} gen")),
            "applied is {applied}, not {event}"
        );
    }
}

fn named_key(k: Option<&::event::OrderKey>) -> String {
    k.map_or("nothing".to_owned(), |k| match k.generation() {
        0 => k.event_id().to_owned(),
        generation => format!("{} gen {generation}", k.event_id()),
    })
}
