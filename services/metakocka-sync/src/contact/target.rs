//! Partners of one Metakocka company as the link engine's target, for one handling.
//!
//! * A look-up tries keys strongest first (tax number, e-mail address, exact name and address) and makes at most
//!   [`LOOKUPS`] calls: a tax number is asked for in each spelling under which it may stand there, two for most
//!   countries and never more than four; a mailbox in lower case and, where it is given with capitals, as given. The name
//!   is asked only where it is at most call [`LOOKUPS_WITH_NAME`], so with a tax number and an e-mail address it is left
//!   out. A create therefore costs at most [`LOOKUPS`] calls and one (a Slovenian one four, five with capitals), and one
//!   more for each address beyond the first further one.
//! * A hit counts only if we find the key on it ourselves, if it is not of the other kind (person, organization), and if
//!   it does not carry another value of a stronger key.
//! * An update sends scalars by `mk_id`, all fields of the main address or none. Where the answer does not show what
//!   was sent, the partner is read back (contract §2.3).
//! * An append carries one part. Where neither the answer nor a read shows it, its outcome is unknown: repeating it
//!   would add it twice.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metakocka::{
    AddedPartner, Error, MainFields, Metakocka, MkId, Partner, PartnerUpdate, TAX_SPELLINGS,
};
use sync::{
    Answer, Call, Content, Fields, LookError, NaturalKey, Operation, Part, Record, SendError,
    Target,
};
use worker::{DeadClass, Failure};

use super::keys::{Identity, Who, contradicts, may_be};
use super::parts;
use super::record::{View, main_address};
use super::sending::{address_id, as_sent, filled, main_fields, new_partner};
use crate::failure;

/// Most look-up calls before a create, paging aside: every spelling of a tax number, and two of an e-mail address.
pub const LOOKUPS: usize = TAX_SPELLINGS + 2;
/// Where a name is asked for, too.
pub const LOOKUPS_WITH_NAME: usize = 3;

/// See the module.
pub struct PartnerTarget {
    client: Metakocka,
    /// Of the connection whose credentials the client has.
    epoch: i64,
    view: View,
    shown: Mutex<Option<Shown>>,
    /// Our own limits refused a call, until then.
    limited: Mutex<Option<Instant>>,
}

/// What an append must know of the partner as it was before; from the last read, or from our own create.
#[derive(Clone)]
struct Shown {
    id: MkId,
    parts: Vec<String>,
    /// Where a new contact may stand.
    address: Option<MkId>,
}

impl Shown {
    fn of(partner: &Partner) -> Self {
        let contacts = partner.contacts.iter().map(|contact| &contact.mk_id);
        let addresses = partner.addresses.iter().map(|address| &address.mk_id);
        let main = main_address(partner).or_else(|| partner.addresses.first());
        Self {
            id: partner.mk_id.clone(),
            parts: contacts.chain(addresses).map(MkId::to_string).collect(),
            address: main.map(|address| address.mk_id.clone()),
        }
    }

    /// The answer does not say which address is the main one.
    fn made(added: &AddedPartner) -> Self {
        let addresses = added
            .addresses
            .iter()
            .map(|address| address.mk_id.to_string());
        Self {
            id: added.mk_id.clone(),
            parts: addresses.chain(added.mk_contact_id.clone()).collect(),
            address: None,
        }
    }
}

impl PartnerTarget {
    pub fn new(client: Metakocka, epoch: i64, view: View) -> Self {
        Self {
            client,
            epoch,
            view,
            shown: Mutex::default(),
            limited: Mutex::default(),
        }
    }

    async fn find_partners(&self, keys: &[NaturalKey]) -> Result<Vec<Record>, LookError> {
        let mut known: Vec<(Who, Identity)> = keys.iter().filter_map(Identity::parse).collect();
        // A re-check brings them in no order.
        known.sort_by_key(|(_, identity)| identity.rank());
        let mut asked = 0;
        for (at, (who, identity)) in known.iter().enumerate() {
            let Some(key) = self.view.key(identity) else {
                continue;
            };
            let most = match identity {
                Identity::Name { .. } => LOOKUPS_WITH_NAME,
                Identity::Tax(_) | Identity::Number { .. } | Identity::Email(_) => LOOKUPS,
            };
            if asked + key.lookups() > most {
                continue;
            }
            asked += key.lookups();
            let found = self
                .client
                .find_partners(&key)
                .await
                .map_err(|error| self.look_failed(error))?;
            let stronger = &known[..at];
            let mut hits: Vec<&Partner> = found
                .iter()
                .filter(|hit| may_be(hit, *who))
                .filter(|hit| !stronger.iter().any(|(_, key)| contradicts(hit, key)))
                .collect();
            if hits.iter().any(|hit| key.is_certain(hit)) {
                hits.retain(|hit| key.is_certain(hit));
            }
            let hits: Vec<Record> = hits.into_iter().map(|hit| self.view.record(hit)).collect();
            if !hits.is_empty() {
                return Ok(hits);
            }
        }
        Ok(Vec::new())
    }

    async fn read_partner(&self, id: &str) -> Result<Option<Record>, LookError> {
        let Some(id) = MkId::new(id) else {
            return Ok(None);
        };
        let partner = self
            .client
            .partner(&id)
            .await
            .map_err(|error| self.look_failed(error))?;
        Ok(partner.map(|partner| {
            self.remember(Shown::of(&partner));
            self.view.record(&partner)
        }))
    }

    async fn create(
        &self,
        fields: &Fields,
        parts: &[Part],
        leave_by: Instant,
    ) -> Result<Answer, SendError> {
        let of = |kind: &str| parts.iter().find(|part| part.part_type == kind);
        let contact = of(parts::CONTACT);
        let address = of(parts::ADDRESS);
        let partner = new_partner(fields, contact, address, self.view.managed());
        let added = self
            .client
            .add_partner(&partner, leave_by)
            .await
            .map_err(|error| self.send_failed(error))?;
        let named: Vec<(String, Part)> = contact
            .and_then(|part| Some((added.mk_contact_id.clone()?, part.clone())))
            .into_iter()
            .chain(address.and_then(|part| Some((address_id(&added, part)?, part.clone()))))
            .collect();
        if named.len() == parts.len() {
            self.remember(Shown::made(&added));
            let record = as_sent(&added, fields, &named);
            return Ok(answer(added.mk_id.as_str(), named, Some(record)));
        }
        // The answer does not tell the ids apart (two addresses in one street). It is done all the same: ids that a
        // look does not show now are learned when a part changes.
        let record = match self.client.partner(&added.mk_id).await {
            Ok(Some(partner)) => self.view.answered(&partner),
            Ok(None) | Err(_) => return Ok(answer(added.mk_id.as_str(), named, None)),
        };
        let told = parts
            .iter()
            .filter_map(|part| Some((shown_part(&record, part, &[])?, part.clone())))
            .collect();
        Ok(answer(added.mk_id.as_str(), told, Some(record)))
    }

    async fn update(
        &self,
        id: &MkId,
        changed: &Fields,
        whole: &Fields,
        part: Option<&(String, Part)>,
        leave_by: Instant,
    ) -> Result<Answer, SendError> {
        let main = main_fields(changed, whole);
        let update = match part {
            Some((part_id, part)) => self.entry(main, part_id, part)?,
            None => PartnerUpdate::Change {
                main,
                contacts: Vec::new(),
                addresses: Vec::new(),
            },
        };
        let shows = |record: &Record| {
            record.shows(changed) && part.is_none_or(|(id, part)| shows_part(record, id, part))
        };
        let record = self.updated(id, &update, leave_by, shows).await?;
        Ok(answer(
            id.as_str(),
            part.cloned().into_iter().collect(),
            record,
        ))
    }

    /// A change of a part that Metakocka knows by its id, and of these fields.
    fn entry(
        &self,
        main: MainFields,
        part_id: &str,
        part: &Part,
    ) -> Result<PartnerUpdate, SendError> {
        let entry = MkId::new(part_id)
            .ok_or_else(|| SendError::NotSent(nothing_of_the_kind("a part without an id")))?;
        let (mut contacts, mut addresses) = (Vec::new(), Vec::new());
        if part.part_type == parts::CONTACT {
            contacts.push((entry, parts::contact_fields(part, self.view.managed())));
        } else {
            addresses.push((entry, parts::address_fields(part)));
        }
        Ok(PartnerUpdate::Change {
            main,
            contacts,
            addresses,
        })
    }

    async fn append(&self, id: &MkId, part: &Part, leave_by: Instant) -> Result<Answer, SendError> {
        let is_contact = part.part_type == parts::CONTACT;
        let known = self
            .shown(id)
            .filter(|shown| !is_contact || shown.address.is_some());
        let before = match known {
            Some(shown) => shown,
            None => self.look_at(id).await?,
        };
        let update = if is_contact {
            PartnerUpdate::AppendContact {
                address: before
                    .address
                    .clone()
                    .ok_or_else(|| SendError::NotSent(without_address(id)))?,
                contact: filled(parts::contact_fields(part, self.view.managed())),
            }
        } else {
            PartnerUpdate::AppendAddress {
                address: parts::address_fields(part),
            }
        };
        let known = before.parts;
        let shows = |record: &Record| shown_part(record, part, &known).is_some();
        let record = self.updated(id, &update, leave_by, shows).await?;
        let part_id = record
            .as_ref()
            .and_then(|record| shown_part(record, part, &known));
        match part_id {
            Some(part_id) => Ok(answer(id.as_str(), vec![(part_id, part.clone())], record)),
            None => Err(SendError::Unseen(format!(
                "metakocka took a new {} and does not show it",
                part.part_type
            ))),
        }
    }

    async fn change(
        &self,
        id: &MkId,
        part_id: &str,
        part: &Part,
        leave_by: Instant,
    ) -> Result<Answer, SendError> {
        let update = self.entry(MainFields::default(), part_id, part)?;
        let partner = self
            .client
            .update_partner(id, &update, leave_by)
            .await
            .map_err(|error| self.send_failed(error))?;
        let record = self.view.answered(&partner);
        // An answer of before the change would mislead whoever looks for parts in it.
        let shows = shows_part(&record, part_id, part);
        if shows {
            self.remember(Shown::of(&partner));
        }
        Ok(answer(
            id.as_str(),
            vec![(part_id.to_owned(), part.clone())],
            shows.then_some(record),
        ))
    }

    /// The partner after an update: as answered if that shows it, else read back. None: it is done, and a read does not
    /// show the partner now.
    async fn updated(
        &self,
        id: &MkId,
        update: &PartnerUpdate,
        leave_by: Instant,
        shows: impl Fn(&Record) -> bool,
    ) -> Result<Option<Record>, SendError> {
        let told = self
            .client
            .update_partner(id, update, leave_by)
            .await
            .map_err(|error| self.send_failed(error))?;
        let record = self.view.answered(&told);
        if shows(&record) {
            self.remember(Shown::of(&told));
            return Ok(Some(record));
        }
        match self.client.partner(id).await {
            Ok(Some(partner)) => {
                let record = self.view.answered(&partner);
                self.remember(Shown::of(&partner));
                Ok(Some(record))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(SendError::Unknown(format!("not read back: {error}"))),
        }
    }

    /// Before a write: a look that fails means that the write was not sent.
    async fn look_at(&self, id: &MkId) -> Result<Shown, SendError> {
        let partner = self
            .client
            .partner(id)
            .await
            .map_err(|error| SendError::NotSent(self.look_failed(error).0))?;
        let partner = partner
            .ok_or_else(|| SendError::Hidden(format!("metakocka does not show partner {id}")))?;
        Ok(Shown::of(&partner))
    }

    fn remember(&self, shown: Shown) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
    }

    fn shown(&self, id: &MkId) -> Option<Shown> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone().filter(|shown| shown.id == *id)
    }

    fn look_failed(&self, error: Error) -> LookError {
        self.note_limit(&error);
        failure::look(error, self.epoch)
    }

    fn send_failed(&self, error: Error) -> SendError {
        self.note_limit(&error);
        failure::send(error, self.epoch)
    }

    fn note_limit(&self, error: &Error) {
        if let Error::Limited { until, .. } = error {
            *self.limited.lock().unwrap_or_else(PoisonError::into_inner) = Some(*until);
        }
    }
}

impl Target for PartnerTarget {
    fn find<'a>(&'a self, keys: &'a [NaturalKey]) -> BoxFuture<'a, Result<Vec<Record>, LookError>> {
        self.find_partners(keys).boxed()
    }

    fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, LookError>> {
        self.read_partner(id).boxed()
    }

    fn send<'a>(
        &'a self,
        call: &'a Call,
        left: Duration,
    ) -> BoxFuture<'a, Result<Answer, SendError>> {
        async move {
            let leave_by = Instant::now() + left;
            if let Call::Create { fields, parts } = call {
                return self.create(fields, parts, leave_by).await;
            }
            let id = call.target_id().and_then(MkId::new).ok_or_else(|| {
                SendError::NotSent(nothing_of_the_kind("a partner without an id"))
            })?;
            match call {
                Call::Update {
                    changed,
                    whole,
                    part,
                    ..
                } => {
                    self.update(&id, changed, whole, part.as_ref(), leave_by)
                        .await
                }
                Call::AppendPart { part, .. } => self.append(&id, part, leave_by).await,
                Call::ChangePart { part_id, part, .. } => {
                    self.change(&id, part_id, part, leave_by).await
                }
                Call::Create { .. } | Call::Delete { .. } => {
                    Err(SendError::NotSent(nothing_of_the_kind("deleting partners")))
                }
            }
        }
        .boxed()
    }

    fn settle(&self, operation: Operation) -> Duration {
        let settle = self.client.settings().settle;
        match operation {
            Operation::Create => settle.add_partner,
            Operation::Update
            | Operation::AppendPart
            | Operation::ChangePart
            | Operation::Delete => settle.update_partner,
        }
    }

    fn lag(&self) -> Duration {
        self.client.settings().lookup_lag
    }

    /// A write and the look after it; an append may look before it, too.
    fn longest(&self, operation: Operation) -> Duration {
        let settings = self.client.settings();
        let reads = match operation {
            Operation::AppendPart => 2,
            Operation::Create | Operation::Update => 1,
            Operation::ChangePart | Operation::Delete => 0,
        };
        settings.write_timeout + settings.read_timeout * reads
    }

    /// There is no such call (contract §2): a partner outlives its contact.
    fn deletes(&self) -> bool {
        false
    }

    /// The contact, and the first further address.
    fn parts_in_create(&self, content: &Content) -> Vec<Part> {
        [parts::CONTACT, parts::ADDRESS]
            .into_iter()
            .filter_map(|kind| content.parts.get(kind)?.first().cloned())
            .collect()
    }

    fn limited(&self) -> Option<Instant> {
        *self.limited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown_part(record: &Record, part: &Part, known: &[String]) -> Option<String> {
    let shown = record
        .parts
        .iter()
        .find(|shown| !known.contains(&shown.id) && shown.part == *part);
    shown.map(|shown| shown.id.clone())
}

fn shows_part(record: &Record, id: &str, part: &Part) -> bool {
    record
        .parts
        .iter()
        .any(|shown| shown.id == id && shown.part == *part)
}

fn answer(id: &str, part_ids: Vec<(String, Part)>, record: Option<Record>) -> Answer {
    Answer {
        target_id: id.to_owned(),
        part_ids,
        record,
    }
}

fn without_address(id: &MkId) -> Failure {
    Failure::permanent(
        DeadClass::Unmappable,
        format!("partner {id} has no address, and Metakocka adds a contact only to one"),
    )
}

fn nothing_of_the_kind(what: &str) -> Failure {
    Failure::permanent(
        DeadClass::Internal,
        format!("metakocka knows nothing like {what}"),
    )
}
