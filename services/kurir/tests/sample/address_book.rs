//! Carries contacts to an invented address book, as entries with a name and an e-mail address, as memberships, which name their
//! entry, and greets the new ones with a text that the partner suggests: `GET /entries?email=`, `POST /entries`, `GET`, `PUT` and
//! `DELETE /entries/{id}`, the same for `/members` and `/greetings`, and `GET /suggestions?for=`, each with a bearer token.

use std::sync::Arc;
use std::time::Duration;

use event::{Contact, EventType, Payload};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use outbound::{Client, Method, PermitPool, Policy};
use registry::{Member, PATIENCE, Rest, System, Worker};
use runtime::{Kind, Rule, Section};
use secrecy::SecretString;
use serde_json::{Value, json};
use sync::mapping::managed;
use sync::{
    Account, Answer, Call, Content, Fields, Grant, LookError, NaturalKey, Operation, Partner, Plan,
    Planner, Record, SendError, Target, Targets,
};
use worker::budget::BudgetSpec;
use worker::{Connection, Facets, Failure, Job};

pub(crate) static WORKER: Worker = Worker {
    name: "address-book",
    about: "Carries contacts of the CRM to an address book",
    consumes: &[
        EventType::CrmContactCreated,
        EventType::CrmContactUpdated,
        EventType::CrmContactDeleted,
    ],
    facets: Facets(&[
        (
            EventType::CrmContactCreated,
            &["contact", "membership", "greeting"],
        ),
        (EventType::CrmContactUpdated, FACETS),
        (EventType::CrmContactDeleted, FACETS),
    ]),
    system: &ADDRESS_BOOK,
    partner: |client, _settings| Ok(Arc::new(AddressBook(client.clone()))),
};

/// What becomes of a contact, besides the greeting of a new one; each is a link of that kind.
const FACETS: &[&str] = &["contact", "membership"];

static ADDRESS_BOOK: System = System {
    name: "address_book",
    title: "the address book",
    section: &Section {
        name: "address_book",
        defaults: "[address_book]\n# For a server in your own network.\nallow_private_addresses = false\n",
        rules: &[Rule::new(
            "address_book.allow_private_addresses",
            Kind::Switch,
        )],
        between: |_| Vec::new(),
    },
    credentials: &[Member::text("token")],
    operations: || vec!["find", "suggest", "read", "create", "update", "delete"],
    policy: |settings| Ok(Policy::private(settings["allow_private_addresses"] == true)),
    budget: |_settings| Ok(BudgetSpec::in_flight(4)),
    test: |trial| {
        let book = open(trial.client, trial.connection, trial.credentials, 0);
        Rest::test(book, &["entries", "0"]).boxed()
    },
};

fn open(
    client: &Client,
    settings: &Value,
    secret: &SecretString,
    epoch: i64,
) -> Result<Rest, String> {
    let usual = "https://address-book.invalid/";
    Rest::open(client, ADDRESS_BOOK.name, usual, settings, secret, epoch)
}

struct AddressBook(Client);

impl Planner for AddressBook {
    fn plan(&self, job: &Job, targets: &mut Targets) -> Result<Plan, String> {
        let saved = match &job.event.payload {
            Payload::ContactSaved(saved) => saved,
            Payload::ContactDeleted(_) => return Ok(Plan::Delete),
            _ => return Err(format!("{} is not for this worker", job.event.event_type)),
        };
        Ok(match job.link_kind() {
            "membership" => Plan::Save(membership(&saved.contact, targets)),
            "greeting" => Plan::Later(greeting(&saved.contact, targets)),
            _ => Plan::Save(entry(&saved.contact)),
        })
    }
}

fn entry(contact: &Contact) -> Content {
    let mut content = Content::default();
    let name = Some(contact.name.clone());
    content.fields.insert("name".to_owned(), name);
    if let Some(emails) = managed(&contact.emails) {
        let first = emails.and_then(|emails| emails.first());
        let email = first.map(|email| email.value.to_lowercase());
        let key = email
            .as_deref()
            .map(|email| NaturalKey::of(["email", email]));
        content.keys.extend(key);
        content.fields.insert("email".to_owned(), email);
    }
    content
}

/// Names two entries: the contact's own, and that of the organization that it belongs to.
fn membership(contact: &Contact, targets: &mut Targets) -> Content {
    let mut content = Content::default();
    let mut set = |name: &str, value| content.fields.insert(name.to_owned(), value);
    set("of", Some(contact.id.clone()));
    set("entry", Some(targets.of("contact", &contact.id)));
    if let Some(organization) = managed(&contact.organization) {
        let id = organization.and_then(|organization| organization.id.as_deref());
        set("company", id.map(|id| targets.of("contact", id)));
    }
    content.keys.push(NaturalKey::of(["of", &contact.id]));
    content
}

/// Its text is made under the lease.
fn greeting(contact: &Contact, targets: &mut Targets) -> Content {
    let mut content = Content::default();
    let mut set = |name: &str, value| content.fields.insert(name.to_owned(), Some(value));
    set("of", contact.id.clone());
    set("entry", targets.of("contact", &contact.id));
    content.keys.push(NaturalKey::of(["of", &contact.id]));
    content
}

impl Partner for AddressBook {
    fn open(
        &self,
        connection: &Connection,
        credentials: &SecretString,
        epoch: i64,
        permits: Arc<PermitPool>,
    ) -> Result<Box<dyn Account>, String> {
        let book = open(&self.0, &connection.settings, credentials, epoch)?;
        Ok(Box::new(Book(book.with_permit_pool(permits))))
    }
}

struct Book(Rest);

impl Account for Book {
    fn target<'a>(&'a self, grant: &Grant, _job: &Job) -> Box<dyn Target + 'a> {
        Box::new(Shelf {
            book: &self.0,
            path: match grant.granted.link.kind.as_str() {
                "membership" => "members",
                "greeting" => "greetings",
                _ => "entries",
            },
        })
    }

    fn make<'a>(
        &'a self,
        mut known: Content,
        _grant: &'a Grant,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<Content, Failure>> {
        async move {
            let asked = [("for", job.event.record_id())];
            let suggested = self.0.look("suggest", &["suggestions"], &asked).await;
            let text = suggested.map_err(|error| error.0)?.unwrap_or_default();
            let text = text["text"].as_str().map(str::to_owned);
            known.fields.insert("text".to_owned(), text);
            Ok(known)
        }
        .boxed()
    }
}

/// Records of one kind, for one handling.
struct Shelf<'a> {
    book: &'a Rest,
    path: &'static str,
}

impl Shelf<'_> {
    async fn write(&self, call: &Call, left: Duration) -> Result<Answer, SendError> {
        let (operation, method, id, fields) = match call {
            Call::Create { fields, .. } => ("create", Method::POST, None, fields.clone()),
            Call::Update { id, whole, .. } => ("update", Method::PUT, Some(id), whole.clone()),
            Call::Delete { id } => ("delete", Method::DELETE, Some(id), Fields::new()),
            other => unreachable!("entries have no parts: {other:?}"),
        };
        let mut path = vec![self.path];
        path.extend(id.map(String::as_str));
        let sending = self
            .book
            .send(operation, method, &path, json!(fields), left);
        match (sending.await?, id) {
            (Value::Null, Some(id)) => Ok(Answer::of(id, None)),
            (entry, _) => Ok(Answer::of(record(&entry).id, Some(record(&entry)))),
        }
    }
}

fn record(entry: &Value) -> Record {
    let texts = entry.as_object().into_iter().flatten();
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let mut record = Record {
        fields: texts.filter_map(text).collect(),
        ..Record::default()
    };
    record.id = record.fields.remove("id").unwrap_or_default();
    record
}

impl Target for Shelf<'_> {
    fn find<'a>(&'a self, keys: &'a [NaturalKey]) -> BoxFuture<'a, Result<Vec<Record>, LookError>> {
        async move {
            let key = keys.first().map(NaturalKey::parts).unwrap_or_default();
            let [name, value] = key.as_slice() else {
                return Ok(Vec::new());
            };
            let asked = [(name.as_str(), value.as_str())];
            let found = self.book.look("find", &[self.path], &asked).await?;
            let found = found.unwrap_or_default();
            let hits = found.as_array().into_iter().flatten().map(record);
            Ok(hits
                .filter(|hit| hit.fields.get(name) == Some(value))
                .collect())
        }
        .boxed()
    }

    fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, LookError>> {
        async move {
            let found = self.book.look("read", &[self.path, id], &[]).await?;
            Ok(found.as_ref().map(record))
        }
        .boxed()
    }

    fn send<'a>(
        &'a self,
        call: &'a Call,
        left: Duration,
    ) -> BoxFuture<'a, Result<Answer, SendError>> {
        self.write(call, left).boxed()
    }

    /// The address book answers or fails within its time-out.
    fn settle(&self, _operation: Operation) -> Duration {
        PATIENCE * 2
    }

    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    fn longest(&self, _operation: Operation) -> Duration {
        PATIENCE
    }

    fn deletes(&self) -> bool {
        true
    }
}
