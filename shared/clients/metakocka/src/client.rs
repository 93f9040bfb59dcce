//! The calls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbound::{Call, Client, Connection, Observation, PermitPool, Redactor, Url, WINDOW};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::decode::{as_text, one_or_many};
use crate::envelope;
use crate::error::{Code, Error};
use crate::key::{Filter, FilterText, PartnerKey};
use crate::number::{Marks, parse};
use crate::operation::Operation;
use crate::partner::{AddedPartner, MkId, Partner};
use crate::write::{NewPartner, PartnerUpdate};

/// The partner's name in connections, metrics and traces.
pub const SYSTEM: &str = "metakocka";

pub const PRODUCTION_ROOT: &str = "https://main.metakocka.si/rest/eshop/";
pub const DEVELOPMENT_ROOT: &str = "https://devmainsi.metakocka.si/rest/eshop/";

/// Partners asked for at once.
pub const PAGE: usize = 100;

/// A look-up that has not ended after so many pages identifies nobody.
pub const PAGES_LIMIT: usize = 50;

/// How this client deals with Metakocka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub read_timeout: Duration,
    /// Documented server times reach 48 s (§1.6).
    pub write_timeout: Duration,
    /// Names of calls that the server runs one after another (§12).
    pub one_at_a_time: BTreeSet<String>,
    pub settle: Settle,
    /// How long a look-up may not show what was written, or a record that was changed at all: none is known, so this is
    /// assumed (§12). The settle times contain it.
    pub lookup_lag: Duration,
    /// How long a quota answer that names no time keeps the whole connection away (§1.7).
    pub quota_backoff: Duration,
}

/// From `sent_at` until a look-up that finds nothing proves that an unanswered write stored nothing: the window W, the
/// longest Metakocka may work on it, and the lag of its look-ups together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    pub add_partner: Duration,
    pub update_partner: Duration,
}

impl Default for Settle {
    fn default() -> Self {
        Self {
            add_partner: Duration::from_secs(180),
            update_partner: Duration::from_secs(150),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(120),
            one_at_a_time: BTreeSet::from(["search".to_owned()]),
            settle: Settle::default(),
            lookup_lag: Duration::from_secs(10),
            quota_backoff: Duration::from_secs(60),
        }
    }
}

/// One company at Metakocka. Make one per connection and keep it.
#[derive(Clone)]
pub struct Metakocka {
    company: Arc<Company>,
}

#[derive(Clone)]
struct Company {
    connection: Connection,
    root: Url,
    company_id: String,
    secret_key: SecretString,
    settings: Settings,
}

impl Metakocka {
    /// `root` ends before the path family: [`PRODUCTION_ROOT`], or that of a standalone server.
    pub fn new(
        client: &Client,
        root: Url,
        company_id: &str,
        secret_key: SecretString,
        settings: Settings,
    ) -> Self {
        let redactor = Redactor::new([&secret_key]);
        let mut root = root;
        if !root.path().ends_with('/') {
            // Joining a path to a URL drops what follows the last slash.
            let path = format!("{}/", root.path());
            root.set_path(&path);
        }
        Self {
            company: Arc::new(Company {
                connection: Connection::new(client, SYSTEM, redactor),
                root,
                company_id: company_id.to_owned(),
                secret_key,
                settings,
            }),
        }
    }

    /// Calls take permits of the fleet-wide budget, and tell it what they learn.
    pub fn with_permit_pool(self, permit_pool: Arc<PermitPool>) -> Self {
        let Company {
            connection,
            root,
            company_id,
            secret_key,
            settings,
        } = Arc::unwrap_or_clone(self.company);
        Self {
            company: Arc::new(Company {
                connection: connection.with_permit_pool(permit_pool),
                root,
                company_id,
                secret_key,
                settings,
            }),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.company.settings
    }

    /// Asks for a partner that can't exist: Ok means that the credentials work. Stores nothing.
    pub async fn check_credentials(&self) -> Result<(), Error> {
        let nobody = FilterText::new("connection-test@kurir.invalid").expect("it has letters");
        self.get_partner(&Filter::Email(nobody), 0, 1)
            .await
            .map(drop)
    }

    /// One page of `get_partner`, as Metakocka matches it: partially, perhaps. No hit, and a page past the end, are
    /// empty (§12). Prefer [`Self::find_partners`] and [`Self::partner`], which compare.
    pub async fn get_partner(
        &self,
        filter: &Filter,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<Partner>, Error> {
        let page = self.page(filter, offset, limit).await?;
        Ok(page.partners)
    }

    /// All partners that have this key, compared by ourselves, each once. Several mean that the key is ambiguous.
    /// Asks for every spelling and reads every page. Their content may lag: read by id before adopting one.
    pub async fn find_partners(&self, key: &PartnerKey) -> Result<Vec<Partner>, Error> {
        let mut found: Vec<Partner> = Vec::new();
        for filter in key.filters() {
            for partner in self.walk(&filter, |partner| key.matches(partner)).await? {
                if found.iter().all(|known| known.mk_id != partner.mk_id) {
                    found.push(partner);
                }
            }
        }
        Ok(found)
    }

    /// The partner with this id, or None.
    pub async fn partner(&self, id: &MkId) -> Result<Option<Partner>, Error> {
        let filter = Filter::Id(id.clone());
        let mut found = self.walk(&filter, |partner| partner.mk_id == *id).await?;
        Ok(found.pop())
    }

    /// Makes a new partner, also if there is one just like it (§1.6). Nothing leaves after `leave_by`.
    pub async fn add_partner(
        &self,
        partner: &NewPartner,
        leave_by: Instant,
    ) -> Result<AddedPartner, Error> {
        let operation = Operation::AddPartner;
        let fields = Map::from_iter([("partner".to_owned(), partner.object()?)]);
        let answer = self.send(operation, fields, leave_by).await?;
        serde_json::from_value(Value::Object(answer))
            .map_err(|error| self.no_payload(operation, &error.to_string()))
    }

    /// Changes a partner or appends one part to it, and returns it as Metakocka tells it in its answer. That answer
    /// need not show a changed top-level address, so read it back (§2.3). Nothing leaves after `leave_by`.
    pub async fn update_partner(
        &self,
        id: &MkId,
        update: &PartnerUpdate,
        leave_by: Instant,
    ) -> Result<Partner, Error> {
        let operation = Operation::UpdatePartner;
        let fields = Map::from_iter([("partner".to_owned(), update.object(id)?)]);
        let mut answer = self.send(operation, fields, leave_by).await?;
        let missing = |problem: &str| self.no_payload(operation, problem);
        let list = answer.remove("partner_list").unwrap_or(Value::Null);
        let partners: Vec<Partner> =
            one_or_many(list).map_err(|error| missing(&error.to_string()))?;
        partners
            .into_iter()
            .find(|partner| partner.mk_id == *id)
            .ok_or_else(|| missing("the answer does not show the partner"))
    }

    /// Every partner under the filter that `keep` wants, page by page until the end, whichever way the end is told.
    async fn walk(
        &self,
        filter: &Filter,
        keep: impl Fn(&Partner) -> bool,
    ) -> Result<Vec<Partner>, Error> {
        let mut kept = Vec::new();
        let mut seen: BTreeSet<MkId> = BTreeSet::new();
        for _ in 0..PAGES_LIMIT {
            let page = self.page(filter, seen.len(), PAGE).await?;
            let length = page.partners.len();
            let before = seen.len();
            for partner in page.partners {
                if seen.insert(partner.mk_id.clone()) && keep(&partner) {
                    kept.push(partner);
                }
            }
            // A server that ignores the offset tells the same page for ever.
            let nothing_new = seen.len() == before;
            // The count is that of the page or of all hits; only the latter promises more than a short page.
            let promised = page.count.is_some_and(|count| count > seen.len());
            if nothing_new || (length < PAGE && !promised) {
                return Ok(kept);
            }
        }
        Err(Error::TooManyHits { hits: seen.len() })
    }

    async fn page(&self, filter: &Filter, offset: usize, limit: usize) -> Result<Page, Error> {
        let operation = Operation::GetPartner;
        let (name, value) = filter.pair();
        let fields = Map::from_iter([
            (name.to_owned(), json!(value)),
            ("limit".to_owned(), json!(limit.to_string())),
            ("offset".to_owned(), json!(offset.to_string())),
        ]);
        let leave_by = Instant::now() + WINDOW;
        let answer = match self.send(operation, fields, leave_by).await {
            Ok(answer) => answer,
            Err(Error::Refused { code, text }) if says_nobody(&code, &text) => {
                return Ok(Page::default());
            }
            Err(error) => return Err(error),
        };
        Page::read(answer, offset).map_err(|problem| self.no_payload(operation, &problem))
    }

    fn no_payload(&self, operation: Operation, problem: &str) -> Error {
        // The problem may quote the answer.
        let problem = self.company.connection.redactor().text(problem);
        envelope::without_payload(operation.effect(), problem)
    }

    async fn send(
        &self,
        operation: Operation,
        fields: Map<String, Value>,
        leave_by: Instant,
    ) -> Result<Map<String, Value>, Error> {
        let company = &self.company;
        let mut body = fields;
        body.insert(
            "secret_key".to_owned(),
            json!(company.secret_key.expose_secret()),
        );
        body.insert("company_id".to_owned(), json!(company.company_id));
        let url = company
            .root
            .join(operation.path())
            .map_err(|error| Error::NotSent {
                kind: outbound::NotSent::Request,
                text: error.to_string(),
            })?;
        let settings = &company.settings;
        let timeout = match operation.effect() {
            crate::operation::Effect::Reads => settings.read_timeout,
            crate::operation::Effect::Writes => settings.write_timeout,
        };
        let call = Call::post_json(url, Value::Object(body).to_string(), timeout)
            .leaving_by(leave_by)
            .one_at_a_time(settings.one_at_a_time.contains(operation.name()))
            .named(operation.name());
        let outcome = company.connection.call(call).await;
        let mut opened = envelope::open(operation.effect(), outcome, company.connection.redactor());
        if let Err(Error::Quota {
            retry_after,
            named: false,
            ..
        }) = &mut opened
        {
            *retry_after = settings.quota_backoff;
        }
        if let Some(observation) = observation(&opened) {
            company.connection.record(operation.name(), observation);
        }
        opened
    }
}

/// What an answer says about the connection, beyond its own call.
fn observation(opened: &Result<Map<String, Value>, Error>) -> Option<Observation> {
    let error = match opened {
        Ok(_) => return Some(Observation::Fine),
        Err(error) => error,
    };
    match error {
        Error::Refused { .. } | Error::Unlisted { .. } | Error::TooManyHits { .. } => {
            Some(Observation::Fine)
        }
        Error::Quota {
            retry_after,
            named,
            text,
        } => Some(Observation::QuotaUsedUp {
            least: *retry_after,
            named: *named,
            reason: text.clone(),
        }),
        // A time-out or a broken answer may be one record's; several in a row are not.
        Error::Ambiguous { .. } | Error::Transient { .. } | Error::NoSuchCall { .. } => {
            Some(Observation::Failing(error.to_string()))
        }
        Error::NotSent { kind, .. } => {
            (*kind != outbound::NotSent::TooLate).then(|| Observation::Failing(error.to_string()))
        }
        Error::Credentials { .. } | Error::Limited { .. } | Error::Invalid { .. } => None,
    }
}

/// Code 2 without a word about parameters: no partner fits, or the page lies past the end (§2.2, §12).
fn says_nobody(code: &Code, text: &str) -> bool {
    // Also in Metakocka's own spelling, "Paramether". Taking a refused request for "nobody" would make a second partner.
    code.number == "2" && !text.to_lowercase().contains("paramet")
}

#[derive(Default)]
struct Page {
    partners: Vec<Partner>,
    /// `partner_list_count`.
    count: Option<usize>,
}

impl Page {
    /// Empty only where the answer really says so.
    fn read(mut answer: Map<String, Value>, offset: usize) -> Result<Self, String> {
        let said_ok = answer.get("opr_code").is_some_and(|code| !code.is_null());
        let count = answer.remove("partner_list_count").map(as_text);
        let count = match count {
            Some(text) => text.map_err(|kind| format!("partner_list_count is {kind}"))?,
            None => None,
        };
        let count: Option<usize> = match count {
            Some(text) => Some(
                parse(&text, Marks::Usual)
                    .and_then(|number| number.normalize().to_string().parse().ok())
                    .ok_or_else(|| format!("partner_list_count is {text:?}"))?,
            ),
            None => None,
        };
        let list = answer.remove("partner_list");
        let told = said_ok || count.is_some() || list.is_some();
        let partners: Vec<Partner> =
            one_or_many(list.unwrap_or(Value::Null)).map_err(|error| error.to_string())?;
        if !told {
            return Err("neither partners nor their number".to_owned());
        }
        if partners.is_empty() && offset == 0 && count.is_some_and(|count| count > 0) {
            return Err("a number of partners without partners".to_owned());
        }
        Ok(Self { partners, count })
    }
}
