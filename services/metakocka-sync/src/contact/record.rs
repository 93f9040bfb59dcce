//! What a partner of Metakocka shows, in the same text as what a contact wants (`contact.rs`).

use std::collections::{BTreeMap, BTreeSet};

use event::Payload;
use event::identity::{self, country};
use metakocka::{
    Address, AddressKind, Compared, Contact, Partner, PartnerKey, TaxNumber, official_number,
};
use serde::Deserialize as _;
use store::links::EffectRow;
use sync::{
    Base, Content, Fields, Grant, Intent, Operation, Owner, Part, Parts, Record, RecordPart,
    Request,
};

use super::content::{
    self, BUSINESS_ENTITY, COUNTRY, CUSTOMER, FOREIGN, PLACE, POST_NUMBER, PROVINCE, REGISTRATION,
    STREET, TAX_ID, TAXPAYER, managed_fields,
};
use super::keys::Identity;
use super::parts::{self, Managed};

/// How one handling looks at partners: what it wants decides the spelling of what differs in nothing else, and only for
/// things that are not ours. A tax number with or without its country, an address in capitals are not changed and not
/// added again, and neither is a mailbox that stands at somebody's contact already. What we sent ourselves is compared
/// as it was sent.
#[derive(Clone, Debug)]
pub struct View {
    /// The number, and how it is wanted.
    tax: Option<(TaxNumber, String)>,
    /// Names and tax numbers of the record, as they are wanted and as they were sent: how a look-up knows it.
    names: BTreeSet<String>,
    numbers: BTreeSet<String>,
    parts: Vec<Part>,
    /// Ids of parts that we made.
    ours: BTreeSet<String>,
    managed: Managed,
    /// As the event spells them.
    mailboxes: Vec<String>,
    /// A call that makes a contact is open: whether it did must be seen exactly.
    making: bool,
}

impl View {
    /// For an event that wants this content, of a record without a link so far.
    pub fn of_content(content: &Content) -> Self {
        let country = content::country(content).unwrap_or_default();
        let tax = content.fields.get(TAX_ID).cloned().flatten();
        let mut view = Self {
            tax: tax.and_then(|text| Some((TaxNumber::read(&text, country)?, text))),
            names: BTreeSet::new(),
            numbers: BTreeSet::new(),
            parts: content.parts.values().flatten().cloned().collect(),
            ours: BTreeSet::new(),
            managed: Managed::ALL,
            mailboxes: Vec::new(),
            making: false,
        };
        view.knows(&content.fields);
        view
    }

    fn knows(&mut self, fields: &Fields) {
        let told = |name: &str| fields.get(name).cloned().flatten();
        self.names.extend(told(CUSTOMER));
        self.numbers.extend(told(TAX_ID));
    }

    pub(crate) fn of(grant: &Grant, payload: &Payload) -> Self {
        let mut view = match &grant.work.intent {
            Intent::Content { content, .. } => Self::of_content(content),
            Intent::Deleted { .. } | Intent::Resolve | Intent::Recheck { .. } => {
                Self::of_content(&Content::default())
            }
        };
        if let Ok(base) = serde_json::from_value::<Base>(grant.granted.link.base.clone()) {
            view.knows(&base.fields());
        }
        let sent = |row: &EffectRow| serde_json::from_value::<Request>(row.request.clone()).ok();
        let calls = grant
            .granted
            .abandoned_effects
            .iter()
            .chain(&grant.granted.open);
        for request in calls.filter_map(sent) {
            view.knows(&request.fields);
        }
        if let Some(open) = &grant.granted.open {
            // Whether that call was made must be seen exactly.
            view.tax = None;
            let making = [Operation::Create, Operation::AppendPart].map(Operation::as_str);
            view.making = making.contains(&open.operation.as_str());
        }
        if let Ok(known) = Parts::deserialize(&grant.granted.link.target_parts) {
            let ours = known.0.into_iter();
            view.ours = ours
                .filter(|(_, known)| known.owner == Owner::Ours)
                .map(|(id, _)| id)
                .collect();
        }
        if let Payload::ContactSaved(saved) = payload {
            view.managed = managed_fields(&saved.contact);
            let emails = saved.contact.emails.value().into_iter().flatten();
            view.mailboxes = emails
                .map(|email| identity::mailbox(&email.value))
                .collect();
        }
        view
    }

    /// A mailbox of a key as the event spells it. A request knows no spelling, and needs none: what we sent ourselves
    /// is in lower case.
    fn as_given<'a>(&'a self, mailbox: &'a str) -> &'a str {
        let mut given = self.mailboxes.iter().map(String::as_str);
        given
            .find(|given| identity::email(given) == mailbox)
            .unwrap_or(mailbox)
    }

    pub(crate) fn managed(&self) -> Managed {
        self.managed
    }

    /// As found or read.
    pub fn record(&self, partner: &Partner) -> Record {
        let mut record = self.answered(partner);
        if let (Some((number, wanted)), Some(own)) = (&self.tax, partner.tax_number())
            && number.compare(&own) != Compared::Different
        {
            record.fields.insert(TAX_ID.to_owned(), wanted.clone());
        }
        record
    }

    /// What to look for, with the spellings and names that only the record itself knows.
    pub(crate) fn key(&self, identity: &Identity) -> Option<PartnerKey> {
        let mut key = match identity {
            Identity::Email(mailbox) => PartnerKey::email(self.as_given(mailbox)),
            Identity::Tax(_) | Identity::Number { .. } | Identity::Name { .. } => identity.key(),
        }?;
        if let Some(number) = identity.tax_number() {
            for name in &self.names {
                key = key.of_somebody_called(name);
            }
            let country = number.country().unwrap_or_default();
            for text in &self.numbers {
                if TaxNumber::read(text, country).as_ref() == Some(number) {
                    key = key.also_spelled(text);
                }
            }
        }
        Some(key)
    }

    /// As answered to a call of ours: its fields are exactly those stored.
    pub(crate) fn answered(&self, partner: &Partner) -> Record {
        let main = main_address(partner);
        let theirs: Vec<&Contact> = partner
            .contacts
            .iter()
            .filter(|contact| !self.ours.contains(contact.mk_id.as_str()))
            .collect();
        let contacts = partner.contacts.iter().map(|contact| {
            let part = parts::of_contact(contact, self.managed);
            RecordPart {
                id: contact.mk_id.to_string(),
                part: self.contact(contact, part, &theirs),
            }
        });
        let addresses = partner
            .addresses
            .iter()
            .filter(|address| main.is_none_or(|main| main.mk_id != address.mk_id))
            .map(|address| {
                let id = address.mk_id.to_string();
                let part = self.spelled(&id, parts::of_address(address));
                RecordPart { id, part }
            });
        Record {
            id: partner.mk_id.to_string(),
            fields: fields(partner, main),
            parts: contacts.chain(addresses).collect(),
        }
    }

    /// Somebody's contact counts as the wanted one that it makes needless.
    fn contact(&self, contact: &Contact, part: Part, theirs: &[&Contact]) -> Part {
        let id = contact.mk_id.as_str();
        let part = self.spelled(id, part);
        if self.making || self.ours.contains(id) || self.parts.contains(&part) {
            return part;
        }
        let mut wanted = self
            .parts
            .iter()
            .filter(|part| part.part_type == parts::CONTACT);
        wanted
            .find(|wanted| parts::stands_for(contact, wanted, theirs))
            .cloned()
            .unwrap_or(part)
    }

    fn spelled(&self, id: &str, part: Part) -> Part {
        if self.ours.contains(id) || self.parts.contains(&part) {
            return part;
        }
        let wanted = self.parts.iter().find(|wanted| parts::same(wanted, &part));
        wanted.cloned().unwrap_or(part)
    }
}

/// The top-level address as it is shown: the entry of type `Račun`; where types are in other words, the first that is
/// none of the further ones. A delivery address is never taken for it.
pub(crate) fn main_address(partner: &Partner) -> Option<&Address> {
    let of = |wanted: fn(&AddressKind) -> bool| {
        partner
            .addresses
            .iter()
            .find(|address| wanted(&address.kind))
    };
    of(|kind| *kind == AddressKind::Billing)
        .or_else(|| of(|kind| matches!(kind, AddressKind::Other(_))))
}

fn fields(partner: &Partner, main: Option<&Address>) -> BTreeMap<String, String> {
    let clean = |text: &Option<String>| text.as_deref().map(identity::clean);
    let flag = |flag: Option<bool>| flag.map(|flag| flag.to_string());
    let place = |pick: fn(&Address) -> &Option<String>| main.and_then(|main| clean(pick(main)));
    let country = main.and_then(|main| main.country.as_deref().map(country::in_slovenian));
    let tax = partner.tax_number().and(partner.tax_id_number.as_deref());
    let tax = tax.map(official_number::tax_number);
    let shown = [
        (CUSTOMER, clean(&partner.customer)),
        (BUSINESS_ENTITY, flag(partner.business_entity)),
        (TAXPAYER, flag(partner.taxpayer)),
        (FOREIGN, flag(partner.foreign)),
        (TAX_ID, tax),
        (
            REGISTRATION,
            partner
                .registration_number
                .as_deref()
                .map(official_number::registration_number),
        ),
        (STREET, place(|address| &address.street)),
        (POST_NUMBER, place(|address| &address.post_number)),
        (PLACE, place(|address| &address.city)),
        (PROVINCE, place(|address| &address.province)),
        (COUNTRY, country),
    ];
    shown
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text?)))
        .filter(|(_, text)| !text.is_empty())
        .collect()
}
