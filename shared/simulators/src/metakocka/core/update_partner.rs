//! `update_partner` (contract §2.3): only what is sent changes; list entries without an id are appended, every time.

use chrono::{DateTime, Utc};

use super::add_partner::{
    CONTACT_TEXT, CONTACT_TEXTS, CUSTOMER, REGISTRATION_NUMBER, TAX_ID_NUMBER, address_texts,
    address_type, bounded, empty_address, empty_contact,
};
use super::company::{Company, Ids};
use super::encode::Encoder;
use super::partner::{Address, AddressType, MAX_ENTRIES_PER_PARTNER, MkId, Partner};
use super::readings::{Clearing, TopLevelAddress, UpdateAnswer};
use super::reply::{Reply, Seen};
use super::request::{Fields, Request, Sent};

/// What the main address must bring all of, where only a complete one is taken.
const COMPLETE: [&str; 4] = ["street", "post_number", "place", "country"];

impl Company {
    pub(super) fn update_partner(
        &mut self,
        request: &Request,
        now: DateTime<Utc>,
    ) -> Result<Reply, Reply> {
        let sent = request
            .field("partner")
            .ok_or_else(|| Reply::refused(2, "Paramether 'partner' must be set"))?;
        let fields = Fields::of("partner", sent)?;
        let before = self.selected(&fields)?;
        let mut partner = before.clone();
        let mut ids = self.ids;
        self.change_scalars(&fields, &mut partner)?;
        self.change_main_address(&fields, &mut partner, &mut ids)?;
        for entry in fields.list("partner_delivery_address_list")? {
            self.change_or_append_address(&entry, &mut partner, &mut ids)?;
        }
        for entry in fields.list("partner_contact_list")? {
            self.change_or_append_contact(&entry, &mut partner, &mut ids)?;
        }
        if partner.contacts.len() > MAX_ENTRIES_PER_PARTNER
            || partner.addresses.len() > MAX_ENTRIES_PER_PARTNER
        {
            return Err(Reply::refused(
                6,
                "simulator: MAX_ENTRIES_PER_PARTNER reached",
            ));
        }

        let stored = partner != before;
        let shown = match self.readings.update_answer {
            UpdateAnswer::Stored => partner.clone(),
            UpdateAnswer::OldAddresses => Partner {
                addresses: before.addresses,
                ..partner.clone()
            },
            UpdateAnswer::OldPartner => before,
        };
        let seen = Seen {
            refused: None,
            stored,
            mk_id: Some(partner.mk_id),
        };
        let reply = Reply::done(Encoder(&self.readings).partner_list(&[&shown], 1), seen);
        if stored {
            self.store(partner, ids, now);
        }
        Ok(reply)
    }

    /// `mk_id` selects; `count_code` does where there is none.
    fn selected(&self, fields: &Fields<'_>) -> Result<Partner, Reply> {
        let (found, selector) = match (fields.text("mk_id")?, fields.text("count_code")?) {
            (Sent::Value(mk_id), _) => (
                mk_id.parse().ok().and_then(|id| self.copy_of(id)),
                format!("mk_id = {mk_id}"),
            ),
            (_, Sent::Value(code)) => (
                self.partners()
                    .find(|partner| partner.count_code == code)
                    .cloned(),
                format!("count_code = {code}"),
            ),
            _ => {
                return Err(Reply::refused(
                    2,
                    "Paramether 'mk_id' or 'count_code' must be set",
                ));
            }
        };
        found.ok_or_else(|| Reply::refused(2, &format!("Cannot find partner with {selector}")))
    }

    fn change_text(
        &self,
        fields: &Fields<'_>,
        key: &str,
        longest: usize,
        place: &mut String,
    ) -> Result<(), Reply> {
        match bounded(fields, key, longest, self.readings.over_long)? {
            Sent::Value(text) => *place = text,
            Sent::Empty if self.readings.clearing == Clearing::Clears => place.clear(),
            Sent::Empty | Sent::Absent => {}
        }
        Ok(())
    }

    fn change_scalars(&self, fields: &Fields<'_>, partner: &mut Partner) -> Result<(), Reply> {
        self.change_text(fields, "customer", CUSTOMER, &mut partner.customer)?;
        if partner.customer.trim().is_empty() {
            return Err(Reply::refused(2, "Paramether 'customer' must be set"));
        }
        self.change_text(
            fields,
            "tax_id_number",
            TAX_ID_NUMBER,
            &mut partner.tax_id_number,
        )?;
        self.change_text(
            fields,
            "registration_number",
            REGISTRATION_NUMBER,
            &mut partner.registration_number,
        )?;
        for (key, place) in [
            ("business_entity", &mut partner.business_entity),
            ("taxpayer", &mut partner.taxpayer),
            ("foreign_county", &mut partner.foreign_county),
        ] {
            *place = fields.flag(key)?.unwrap_or(*place);
        }
        partner.buyer = fields.flag("buyer")?.or(partner.buyer);
        partner.supplier = fields.flag("supplier")?.or(partner.supplier);
        Ok(())
    }

    fn change_main_address(
        &self,
        fields: &Fields<'_>,
        partner: &mut Partner,
        ids: &mut Ids,
    ) -> Result<(), Reply> {
        let sent = |key: &str| fields.0.get(key).is_some_and(|value| !value.is_null());
        let applied = match self.readings.top_level_address {
            TopLevelAddress::CompleteOnly => COMPLETE.into_iter().all(sent),
            TopLevelAddress::FieldByField => COMPLETE.into_iter().any(sent) || sent("province"),
            TopLevelAddress::NotApplied => false,
        };
        // Read all the same: a wrong value is refused whether or not it would be taken.
        let mut address = match partner.main_address() {
            Some(at) => partner.addresses[at].clone(),
            None => empty_address(MkId(0), AddressType::Billing),
        };
        for (key, longest, place) in address_texts("place") {
            self.change_text(fields, key, longest, place(&mut address))?;
        }
        match (applied, partner.main_address()) {
            (false, _) => {}
            (true, Some(at)) => partner.addresses[at] = address,
            (true, None) => {
                address.mk_id = ids.mk_id();
                partner.addresses.push(address);
            }
        }
        Ok(())
    }

    fn change_or_append_address(
        &self,
        entry: &Fields<'_>,
        partner: &mut Partner,
        ids: &mut Ids,
    ) -> Result<(), Reply> {
        let kind = address_type(entry)?;
        let at = match entry.text("mk_id")? {
            Sent::Value(mk_id) => {
                let known = |address: &Address| address.mk_id.to_string() == mk_id;
                let at = partner.addresses.iter().position(known);
                at.ok_or_else(|| {
                    Reply::refused(2, &format!("Cannot find partner address with id = {mk_id}"))
                })?
            }
            Sent::Absent | Sent::Empty => {
                partner
                    .addresses
                    .push(empty_address(ids.mk_id(), kind.unwrap_or_default()));
                partner.addresses.len() - 1
            }
        };
        let address = &mut partner.addresses[at];
        address.address_type = kind.unwrap_or(address.address_type);
        for (key, longest, place) in address_texts("city") {
            self.change_text(entry, key, longest, place(address))?;
        }
        Ok(())
    }

    fn change_or_append_contact(
        &self,
        entry: &Fields<'_>,
        partner: &mut Partner,
        ids: &mut Ids,
    ) -> Result<(), Reply> {
        let address = match entry.text("mk_address_id")? {
            Sent::Value(id) => {
                let known = partner
                    .addresses
                    .iter()
                    .find(|address| address.mk_id.to_string() == id);
                let unknown =
                    || Reply::refused(2, &format!("Cannot find partner address with id = {id}"));
                Some(known.ok_or_else(unknown)?.mk_id)
            }
            Sent::Absent | Sent::Empty => None,
        };
        let at = match (entry.text("mk_id")?, address) {
            (Sent::Value(mk_id), _) => {
                let at = partner
                    .contacts
                    .iter()
                    .position(|contact| contact.mk_id.to_string() == mk_id);
                at.ok_or_else(|| {
                    Reply::refused(2, &format!("Cannot find partner contact with id = {mk_id}"))
                })?
            }
            (_, Some(_)) => {
                partner.contacts.push(empty_contact(ids.mk_id(), None));
                partner.contacts.len() - 1
            }
            (_, None) => {
                return Err(Reply::refused(
                    2,
                    "Paramether 'mk_address_id' must be set for new contact",
                ));
            }
        };
        let contact = &mut partner.contacts[at];
        contact.mk_address_id = address.or(contact.mk_address_id);
        for (key, place) in CONTACT_TEXTS {
            self.change_text(entry, key, CONTACT_TEXT, place(contact))?;
        }
        Ok(())
    }
}
