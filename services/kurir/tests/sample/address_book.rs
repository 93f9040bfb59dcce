//! Carries names and e-mail addresses of contacts to an invented address book: `GET /entries?email=`, `GET`, `PUT` and
//! `DELETE /entries/{id}`, `POST /entries`, each with a bearer token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{EventType, Payload};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use outbound::address::Private;
use outbound::{Call as Request, Client, Connection as Way, Method, Policy, Redactor, Reply};
use outbound::{CallError, StatusClass, Url};
use registry::{Member, System, TestError, Tested, Trial, Worker};
use runtime::{Kind, Rule, Section};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use sync::mapping::managed;
use sync::{Account, Answer, Call, Content, Fields, Grant, LookError, NaturalKey, Operation, Part};
use sync::{Partner, Plan, Planner, Record, SendError, Target};
use worker::budget::{BudgetSpec, Purse};
use worker::{Connection, DeadClass, Failure, HoldCause, Job};

const NAME: &str = "address-book";
const SYSTEM: &str = "address_book";
const PATIENCE: Duration = Duration::from_secs(10);

pub static WORKER: Worker = Worker {
    name: NAME,
    about: "Carries contacts of the CRM to an address book",
    consumes: &[
        EventType::CrmContactCreated,
        EventType::CrmContactUpdated,
        EventType::CrmContactDeleted,
    ],
    system: &ADDRESS_BOOK,
    partner: |client, settings| {
        let settle = Duration::from_secs(
            settings["settle_seconds"]
                .as_u64()
                .ok_or("settle_seconds")?,
        );
        Ok(Arc::new(AddressBook {
            client: client.clone(),
            settle,
        }))
    },
};

static ADDRESS_BOOK: System = System {
    name: SYSTEM,
    title: "the address book",
    section: &Section {
        name: SYSTEM,
        defaults: include_str!("address_book.toml"),
        rules: &[
            Rule::whole("address_book.settle_seconds", 1, 3600),
            Rule::new("address_book.allow_private_addresses", Kind::Switch),
        ],
        between: |_| Vec::new(),
    },
    credentials: &[Member::text("token")],
    operations: || vec!["find", "read", "create", "update", "delete"],
    policy: |settings| {
        let allowed = settings["allow_private_addresses"] == true;
        let private = if allowed {
            Private::Allow
        } else {
            Private::Refuse
        };
        Ok(Policy {
            connect_timeout: Duration::from_secs(3),
            private,
        })
    },
    budget: |_| {
        Ok(BudgetSpec {
            windows: Vec::new(),
            in_flight: 4,
            searches: 4,
        })
    },
    test: |trial| test(trial).boxed(),
};

async fn test(trial: Trial<'_>) -> Result<Tested, TestError> {
    let book = Book::open(
        trial.client,
        trial.connection,
        trial.credentials,
        0,
        Duration::ZERO,
    );
    let book = book.map_err(TestError::Unusable)?;
    match book
        .find_by(&NaturalKey::of(["email", "nobody@kurir.invalid"]))
        .await
    {
        Ok(_) => Ok(Tested {
            warnings: Vec::new(),
        }),
        Err(LookError(Failure::Blocked { message, .. })) => Err(TestError::Refused(message)),
        Err(LookError(other)) => Err(TestError::Unavailable(format!("{other:?}"))),
    }
}

struct AddressBook {
    client: Client,
    settle: Duration,
}

impl Planner for AddressBook {
    fn worker(&self) -> &'static str {
        NAME
    }

    fn target_system(&self) -> &'static str {
        SYSTEM
    }

    fn plan(&self, job: &Job) -> Result<Plan, String> {
        match &job.event.payload {
            Payload::ContactSaved(saved) => {
                let contact = &saved.contact;
                let mut content = Content::default();
                content
                    .fields
                    .insert("name".to_owned(), Some(contact.name.clone()));
                if let Some(emails) = managed(&contact.emails) {
                    let first = emails
                        .and_then(|emails| emails.first())
                        .map(|email| email.value.to_lowercase());
                    content.keys.extend(
                        first
                            .as_deref()
                            .map(|email| NaturalKey::of(["email", email])),
                    );
                    content.fields.insert("email".to_owned(), first);
                }
                Ok(Plan::Save(content))
            }
            Payload::ContactDeleted(_) => Ok(Plan::Delete),
            _ => Err(format!("{} is not for {NAME}", job.event.event_type)),
        }
    }
}

impl Partner for AddressBook {
    fn open(
        &self,
        of: &Connection,
        secret: &SecretString,
        epoch: i64,
        purse: Arc<Purse>,
    ) -> Result<Box<dyn Account>, String> {
        let mut book = Book::open(&self.client, &of.settings, secret, epoch, self.settle)?;
        book.way = book.way.with_purse(purse);
        Ok(Box::new(book))
    }
}

/// One address book: the account, and the target of every handling.
#[derive(Clone)]
struct Book {
    way: Way,
    root: Url,
    token: SecretString,
    epoch: i64,
    settle: Duration,
}

impl Book {
    fn open(
        client: &Client,
        connection: &Value,
        secret: &SecretString,
        epoch: i64,
        settle: Duration,
    ) -> Result<Self, String> {
        let secret: Value =
            serde_json::from_str(secret.expose_secret()).map_err(|_quotes| "no JSON")?;
        let token = SecretString::from(
            secret["token"]
                .as_str()
                .ok_or("the credentials lack `token`")?,
        );
        let usual =
            Url::parse("https://address-book.invalid/").map_err(|error| error.to_string())?;
        let root = registry::root(connection, &usual)?;
        Ok(Self {
            way: Way::new(client, SYSTEM, Redactor::new([&token])),
            root,
            token,
            epoch,
            settle,
        })
    }

    async fn ask(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<Value>,
        left: Duration,
    ) -> Result<Reply, CallError> {
        let mut url = self.root.clone();
        url.set_path(path.split('?').next().unwrap_or_default());
        url.set_query(path.split_once('?').map(|(_, query)| query));
        let mut call = Request::get(url, PATIENCE)
            .leaving_by(Instant::now() + left)
            .named(operation);
        call.method = method;
        let bearer = format!("Bearer {}", self.token.expose_secret());
        call.headers.insert(
            "authorization",
            bearer.parse().expect("a token without control characters"),
        );
        if let Some(body) = body {
            call.headers
                .insert("content-type", "application/json".parse().expect("plain"));
            call.body = body.to_string().into();
        }
        self.way.call(call).await
    }

    /// Why a call that provably changed nothing failed.
    fn failure(&self, class: StatusClass) -> Failure {
        match class {
            StatusClass::Credentials => Failure::blocked(
                HoldCause::Suspended,
                Some(self.epoch),
                "the token is refused",
            ),
            StatusClass::TooMany | StatusClass::Server => {
                Failure::transient(DeadClass::Unavailable, format!("{class:?}"))
            }
            other => Failure::permanent(DeadClass::Refused, format!("{other:?}")),
        }
    }

    async fn find_by(&self, key: &NaturalKey) -> Result<Vec<Record>, LookError> {
        let email = key.parts().pop().unwrap_or_default();
        let path = format!("/entries?email={}", email.replace('+', "%2B"));
        let found = self.look("find", &path).await?.unwrap_or_default();
        let hits = found.as_array().into_iter().flatten().map(record);
        Ok(hits
            .filter(|hit| hit.fields.get("email") == Some(&email))
            .collect())
    }

    async fn look(&self, operation: &'static str, path: &str) -> Result<Option<Value>, LookError> {
        let asked = self
            .ask(operation, Method::GET, path, None, outbound::WINDOW)
            .await;
        let reply = asked.map_err(|error| LookError::unavailable(error.to_string()))?;
        match reply.class() {
            StatusClass::NotFound => Ok(None),
            StatusClass::Success => {
                let read = serde_json::from_slice(&reply.body);
                read.map(Some)
                    .map_err(|error| LookError::unavailable(error.to_string()))
            }
            other => Err(LookError(self.failure(other))),
        }
    }
}

fn record(entry: &Value) -> Record {
    let text = |name: &str| Some((name.to_owned(), entry[name].as_str()?.to_owned()));
    let fields = ["name", "email"].into_iter().filter_map(text).collect();
    Record {
        id: entry["id"].to_string(),
        fields,
        parts: Vec::new(),
    }
}

fn body(fields: &Fields) -> Option<Value> {
    let members = fields
        .iter()
        .map(|(name, text)| (name.clone(), json!(text)));
    Some(Value::Object(Map::from_iter(members)))
}

impl Account for Book {
    fn target<'a>(&'a self, _grant: &Grant, _job: &Job) -> Box<dyn Target + 'a> {
        Box::new(self.clone())
    }
}

impl Target for Book {
    fn find<'a>(&'a self, keys: &'a [NaturalKey]) -> BoxFuture<'a, Result<Vec<Record>, LookError>> {
        async move {
            match keys.first() {
                Some(email) => self.find_by(email).await,
                None => Ok(Vec::new()),
            }
        }
        .boxed()
    }

    fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, LookError>> {
        async move {
            Ok(self
                .look("read", &format!("/entries/{id}"))
                .await?
                .as_ref()
                .map(record))
        }
        .boxed()
    }

    fn send<'a>(
        &'a self,
        call: &'a Call,
        left: Duration,
    ) -> BoxFuture<'a, Result<Answer, SendError>> {
        async move {
            let (operation, method, path, body) = match call {
                Call::Create { fields, .. } => {
                    ("create", Method::POST, "/entries".to_owned(), body(fields))
                }
                Call::Update { id, changed, .. } => (
                    "update",
                    Method::PUT,
                    format!("/entries/{id}"),
                    body(changed),
                ),
                Call::Delete { id } => (
                    "delete",
                    Method::DELETE,
                    format!("/entries/{id}"),
                    Some(json!({})),
                ),
                Call::AppendPart { .. } | Call::ChangePart { .. } => {
                    let none = Failure::permanent(DeadClass::Internal, "entries have no parts");
                    return Err(SendError::NotSent(none));
                }
            };
            let reply = match self.ask(operation, method, &path, body, left).await {
                Ok(reply) => reply,
                Err(error) if error.never_left() => {
                    return Err(SendError::NotSent(Failure::transient(
                        DeadClass::Unavailable,
                        error.to_string(),
                    )));
                }
                Err(error) => return Err(SendError::Unknown(error.to_string())),
            };
            match (reply.class(), call) {
                (StatusClass::Success | StatusClass::NotFound, Call::Delete { id }) => Ok(Answer {
                    target_id: id.clone(),
                    part_ids: Vec::new(),
                    record: None,
                }),
                (StatusClass::Success, _) => match serde_json::from_slice::<Value>(&reply.body) {
                    Ok(entry) => {
                        let record = record(&entry);
                        Ok(Answer {
                            target_id: record.id.clone(),
                            part_ids: Vec::new(),
                            record: Some(record),
                        })
                    }
                    Err(error) => Err(SendError::Unknown(error.to_string())),
                },
                (StatusClass::Server | StatusClass::Odd, _) => {
                    Err(SendError::Unknown(format!("{}", reply.status)))
                }
                (class, _) => Err(SendError::Refused(self.failure(class))),
            }
        }
        .boxed()
    }

    fn settle(&self, _operation: Operation) -> Duration {
        self.settle
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

    fn parts_in_create(&self, _content: &Content) -> Vec<Part> {
        Vec::new()
    }
}
