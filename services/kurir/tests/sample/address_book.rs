//! Carries names and e-mail addresses of contacts to an invented address book: `GET /entries?email=`, `POST /entries`, `GET`,
//! `PUT` and `DELETE /entries/{id}`, each with a bearer token.

use std::sync::Arc;
use std::time::Duration;

use event::{EventType, Payload};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use outbound::{Client, Method, Policy, Purse};
use registry::{Member, PATIENCE, Rest, System, Worker};
use runtime::{Kind, Rule, Section};
use secrecy::SecretString;
use serde_json::{Value, json};
use sync::mapping::managed;
use sync::{
    Account, Answer, Call, Content, Fields, Grant, LookError, NaturalKey, Operation, Partner, Plan,
    Planner, Record, SendError, Target,
};
use worker::budget::BudgetSpec;
use worker::{Connection, Facets, Job};

pub(crate) static WORKER: Worker = Worker {
    name: "address-book",
    about: "Carries contacts of the CRM to an address book",
    consumes: &[
        EventType::CrmContactCreated,
        EventType::CrmContactUpdated,
        EventType::CrmContactDeleted,
    ],
    facets: Facets::ENTITY,
    system: &ADDRESS_BOOK,
    partner: |client, _settings| Ok(Arc::new(AddressBook(client.clone()))),
};

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
    operations: || vec!["find", "read", "create", "update", "delete"],
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
    fn plan(&self, job: &Job) -> Result<Plan, String> {
        let saved = match &job.event.payload {
            Payload::ContactSaved(saved) => saved,
            Payload::ContactDeleted(_) => return Ok(Plan::Delete),
            _ => return Err(format!("{} is not for this worker", job.event.event_type)),
        };
        let mut content = Content::default();
        let name = Some(saved.contact.name.clone());
        content.fields.insert("name".to_owned(), name);
        if let Some(emails) = managed(&saved.contact.emails) {
            let first = emails.and_then(|emails| emails.first());
            let email = first.map(|email| email.value.to_lowercase());
            let key = email
                .as_deref()
                .map(|email| NaturalKey::of(["email", email]));
            content.keys.extend(key);
            content.fields.insert("email".to_owned(), email);
        }
        Ok(Plan::Save(content))
    }
}

impl Partner for AddressBook {
    fn open(
        &self,
        connection: &Connection,
        credentials: &SecretString,
        epoch: i64,
        permits: Arc<Purse>,
    ) -> Result<Box<dyn Account>, String> {
        let book = open(&self.0, &connection.settings, credentials, epoch)?;
        Ok(Box::new(Book(book.with_purse(permits))))
    }
}

/// The account, and the target of each handling.
#[derive(Clone)]
struct Book(Rest);

impl Account for Book {
    fn target<'a>(&'a self, _grant: &Grant, _job: &Job) -> Box<dyn Target + 'a> {
        Box::new(self.clone())
    }
}

impl Book {
    async fn write(&self, call: &Call, left: Duration) -> Result<Answer, SendError> {
        let (operation, method, id, fields) = match call {
            Call::Create { fields, .. } => ("create", Method::POST, None, fields.clone()),
            Call::Update { id, whole, .. } => ("update", Method::PUT, Some(id), whole.clone()),
            Call::Delete { id } => ("delete", Method::DELETE, Some(id), Fields::new()),
            other => unreachable!("entries have no parts: {other:?}"),
        };
        let mut path = vec!["entries"];
        path.extend(id.map(String::as_str));
        let sending = self.0.send(operation, method, &path, json!(fields), left);
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

impl Target for Book {
    fn find<'a>(&'a self, keys: &'a [NaturalKey]) -> BoxFuture<'a, Result<Vec<Record>, LookError>> {
        async move {
            let email = keys.first().and_then(|key| key.parts().pop());
            let asked = [("email", email.as_deref().unwrap_or_default())];
            let found = self.0.look("find", &["entries"], &asked).await?;
            let found = found.unwrap_or_default();
            let hits = found.as_array().into_iter().flatten().map(record);
            Ok(hits
                .filter(|hit| hit.fields.get("email") == email.as_ref())
                .collect())
        }
        .boxed()
    }

    fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, LookError>> {
        async move {
            let found = self.0.look("read", &["entries", id], &[]).await?;
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
