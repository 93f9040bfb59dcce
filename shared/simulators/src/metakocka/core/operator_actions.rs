//! What people do in Metakocka's own application, behind a caller's back (contract §10.2.17, for partners).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::add_partner::{empty_address, empty_contact, empty_partner};
use super::company::{Company, Ids};
use super::partner::{AddressType, MAX_ENTRIES_PER_PARTNER, MAX_PARTNERS, MkId, Partner};
use crate::error::Error;

/// What a person types into a partner: what is `None` stays. Lists are the whole list: who isn't in it is removed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartnerEdit {
    pub customer: Option<String>,
    pub business_entity: Option<bool>,
    pub taxpayer: Option<bool>,
    pub foreign_county: Option<bool>,
    pub buyer: Option<bool>,
    pub supplier: Option<bool>,
    pub tax_id_number: Option<String>,
    pub registration_number: Option<String>,
    pub addresses: Option<Vec<PersonAddress>>,
    pub contacts: Option<Vec<PersonContact>>,
}

/// An address as a person types it; with an `mk_id` it is the one that exists.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PersonAddress {
    pub mk_id: Option<MkId>,
    pub address_type: AddressType,
    pub street: String,
    pub post_number: String,
    pub city: String,
    pub province: String,
    pub country: String,
}

/// A contact as a person types it; without an address it stands at the partner's first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PersonContact {
    pub mk_id: Option<MkId>,
    pub mk_address_id: Option<MkId>,
    pub name: String,
    pub email: String,
    pub gsm: String,
    pub phone: String,
    pub fax: String,
}

impl Company {
    /// Adds a partner by hand. A name is needed; nothing else is checked.
    pub fn person_adds(&mut self, edit: PartnerEdit, now: DateTime<Utc>) -> Result<MkId, Error> {
        if edit
            .customer
            .as_deref()
            .is_none_or(|name| name.trim().is_empty())
        {
            return Err(Error::Invalid(
                "a partner needs a customer (its name)".into(),
            ));
        }
        if self.partners.len() >= MAX_PARTNERS {
            return Err(Error::Full("more partners than MAX_PARTNERS"));
        }
        let mut ids = self.ids;
        let mk_id = ids.mk_id();
        let mut partner = empty_partner(mk_id, ids.count_code());
        apply(edit, &mut partner, &mut ids)?;
        self.store(partner, ids, now);
        Ok(mk_id)
    }

    /// Edits a partner by hand: changes, renames, removes contacts and addresses.
    pub fn person_edits(
        &mut self,
        mk_id: MkId,
        edit: PartnerEdit,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut partner = self
            .copy_of(mk_id)
            .ok_or_else(|| self.unknown_partner(mk_id))?;
        let mut ids = self.ids;
        apply(edit, &mut partner, &mut ids)?;
        self.store(partner, ids, now);
        Ok(())
    }

    pub fn person_renames(
        &mut self,
        mk_id: MkId,
        customer: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let edit = PartnerEdit {
            customer: Some(customer.to_owned()),
            ..PartnerEdit::default()
        };
        self.person_edits(mk_id, edit, now)
    }

    /// Deletes a partner; nobody is told (§9.23). When searches stop showing it is a reading.
    pub fn person_deletes(&mut self, mk_id: MkId, now: DateTime<Utc>) -> Result<(), Error> {
        self.partners
            .remove(&mk_id)
            .ok_or_else(|| self.unknown_partner(mk_id))?;
        self.index
            .deleted(now, mk_id, self.readings.deleted_in_index);
        Ok(())
    }

    /// Merges one partner into another: its contacts and addresses move over with their ids, it is gone.
    pub fn person_merges(
        &mut self,
        gone: MkId,
        survivor: MkId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if gone == survivor {
            return Err(Error::Invalid(
                "a partner can't be merged into itself".into(),
            ));
        }
        let from = self
            .partners
            .get(&gone)
            .map(Arc::clone)
            .ok_or_else(|| self.unknown_partner(gone))?;
        let mut into = self
            .copy_of(survivor)
            .ok_or_else(|| self.unknown_partner(survivor))?;
        into.addresses.extend(from.addresses.iter().cloned());
        into.contacts.extend(from.contacts.iter().cloned());
        self.store(into, self.ids, now);
        self.person_deletes(gone, now)
    }

    /// That there is no such partner.
    pub(crate) fn unknown_partner(&self, mk_id: MkId) -> Error {
        let company = self.company_id();
        Error::Unknown(format!("company {company} has no partner {mk_id}"))
    }
}

fn apply(edit: PartnerEdit, partner: &mut Partner, ids: &mut Ids) -> Result<(), Error> {
    let entries =
        |length: Option<usize>| length.is_some_and(|length| length > MAX_ENTRIES_PER_PARTNER);
    if entries(edit.addresses.as_ref().map(Vec::len))
        || entries(edit.contacts.as_ref().map(Vec::len))
    {
        return Err(Error::Full(
            "more contacts or addresses than MAX_ENTRIES_PER_PARTNER",
        ));
    }
    for (text, place) in [
        (edit.customer, &mut partner.customer),
        (edit.tax_id_number, &mut partner.tax_id_number),
        (edit.registration_number, &mut partner.registration_number),
    ] {
        if let Some(text) = text {
            *place = text;
        }
    }
    for (flag, place) in [
        (edit.business_entity, &mut partner.business_entity),
        (edit.taxpayer, &mut partner.taxpayer),
        (edit.foreign_county, &mut partner.foreign_county),
    ] {
        *place = flag.unwrap_or(*place);
    }
    partner.buyer = edit.buyer.or(partner.buyer);
    partner.supplier = edit.supplier.or(partner.supplier);
    if let Some(addresses) = edit.addresses {
        let typed = |entry: PersonAddress, ids: &mut Ids| {
            let mut address = empty_address(
                entry.mk_id.unwrap_or_else(|| ids.mk_id()),
                entry.address_type,
            );
            address.street = entry.street;
            address.post_number = entry.post_number;
            address.city = entry.city;
            address.province = entry.province;
            address.country = entry.country;
            address
        };
        partner.addresses = addresses
            .into_iter()
            .map(|entry| typed(entry, ids))
            .collect();
    }
    if let Some(contacts) = edit.contacts {
        let first = partner.addresses.first().map(|address| address.mk_id);
        let typed = |entry: PersonContact, ids: &mut Ids| {
            let at = entry.mk_address_id.or(first);
            let mut contact = empty_contact(entry.mk_id.unwrap_or_else(|| ids.mk_id()), at);
            contact.name = entry.name;
            contact.email = entry.email;
            contact.gsm = entry.gsm;
            contact.phone = entry.phone;
            contact.fax = entry.fax;
            contact
        };
        partner.contacts = contacts
            .into_iter()
            .map(|entry| typed(entry, ids))
            .collect();
    }
    Ok(())
}
