//! The switches of contract §12: where the sources are silent or disagree, each reading is a setting.

use serde::{Deserialize, Serialize};

use crate::readings::Preset;

/// Every switch, by the name it has in JSON. Two presets: [`Readings::kind`] and [`Readings::nasty`].
/// The crate's README has the table "row of §12 → switch".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Readings {
    /// A list of one arrives as a bare object (§1.8).
    pub collapse_single_lists: bool,
    /// What a filter with empty or null text finds.
    pub empty_filter: EmptyFilter,
    pub match_name: Matching,
    pub match_tax: Matching,
    pub match_email: Matching,
    pub match_phone: Matching,
    /// What a page after the last one is.
    pub paging_past_end: PastEnd,
    /// What several filters in one `get_partner` mean.
    pub several_filters: SeveralFilters,
    /// What an empty text in `update_partner` does to a value. (Null is as if the key was absent.)
    pub clearing: Clearing,
    /// How street, post number, place and country at the top level of `update_partner` are taken.
    pub top_level_address: TopLevelAddress,
    /// What the answer of `update_partner` shows; a read afterwards always shows what is stored.
    pub update_answer: UpdateAnswer,
    /// How an exhausted quota is answered.
    pub quota_answer: QuotaAnswer,
    /// Whether a call that was refused for the quota uses it up further.
    pub quota_counts_refused: bool,
    /// Seconds in a `Retry-After` header beside HTTP 429; absent without.
    pub quota_retry_after_seconds: Option<u32>,
    /// What the plain fault `code1` does to a write.
    pub code_1_on_write: Code1OnWrite,
    /// Successful partner calls carry no `opr_code` (§1.5).
    pub omit_opr_code: bool,
    pub booleans: Native,
    /// `opr_code`, `opr_time_ms` and counts. Ids are always text (§1.3).
    pub numbers: Native,
    /// The key of an address's province.
    pub province_key: ProvinceKey,
    /// Which calls of one company wait for each other (§1.7).
    pub lane: Lane,
    /// How long a search doesn't see a change.
    pub index_lag_seconds: u32,
    /// What is shown of a partner whose change is not visible yet. A new one is never shown before.
    pub changed_in_index: ChangedInIndex,
    /// Whether a read by `partner_id` lags as a search does.
    pub read_by_id: ReadById,
    /// When searches stop showing a deleted partner.
    pub deleted_in_index: DeletedInIndex,
    /// A text longer than its field.
    pub over_long: OverLong,
    /// `add_partner` without any text of an address.
    pub empty_address: EmptyAddress,
    /// What `partner_list_count` counts.
    pub partner_list_count: PartnerListCount,
    /// The text of error 3 repeats the key that was sent (§1.2).
    pub errors_echo_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyFilter {
    /// As if there was no filter.
    Everybody,
    /// No hit: code 2.
    Nothing,
}

/// How one filter of `get_partner` compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matching {
    pub extent: Extent,
    pub text: KeptForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// The stored text contains the sought one.
    Partial,
    Exact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptForm {
    /// As stored and as sent. Names are compared without case even so (§2.2).
    Raw,
    /// Tax: letters and digits, without country prefix. Phone: digits, `00` is `+`. E-mail and name: case and spaces don't count.
    Normalised,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PastEnd {
    Code2,
    EmptyList,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeveralFilters {
    And,
    /// The one that stands last in the request.
    LastWins,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clearing {
    Keeps,
    Clears,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopLevelAddress {
    /// Only when street, post number, place and country are all there; otherwise silently nothing.
    CompleteOnly,
    FieldByField,
    /// Never applied (§2.3: the documentation's own example doesn't show it applied).
    NotApplied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateAnswer {
    Stored,
    /// The addresses are those from before the update.
    OldAddresses,
    /// The whole partner is as before the update.
    OldPartner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaAnswer {
    /// HTTP 200 with code 5.
    Code5,
    Http429,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code1OnWrite {
    Stored,
    NotStored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Native {
    String,
    Native,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvinceKey {
    Province,
    /// As real data has it (§2.2).
    Provice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// `search` only; `get_partner` runs freely.
    SearchOnly,
    /// Every reading call of a company waits for the one before.
    AllReads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletedInIndex {
    /// At once, whatever the lag.
    Gone,
    /// After the lag, as any other change.
    AfterLag,
    /// Never: a search shows it for ever, a read by id doesn't.
    Stays,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedInIndex {
    /// What it was before.
    Old,
    /// Nothing: it is away until the change is visible.
    Hidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadById {
    /// What is stored.
    AtOnce,
    /// What a search sees.
    Lags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLong {
    Refuse,
    Truncate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyAddress {
    /// An empty billing address is made, so that the partner can stand on documents.
    Made,
    NotMade,
    /// The address is mandatory: code 2.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartnerListCount {
    Page,
    Total,
}

impl Matching {
    pub const PARTIAL_RAW: Matching = Matching {
        extent: Extent::Partial,
        text: KeptForm::Raw,
    };
    pub const PARTIAL_NORMALISED: Matching = Matching {
        extent: Extent::Partial,
        text: KeptForm::Normalised,
    };
    pub const EXACT_RAW: Matching = Matching {
        extent: Extent::Exact,
        text: KeptForm::Raw,
    };
    pub const EXACT_NORMALISED: Matching = Matching {
        extent: Extent::Exact,
        text: KeptForm::Normalised,
    };
}

impl Readings {
    pub fn preset(preset: Preset) -> Self {
        match preset {
            Preset::Kind => Readings::kind(),
            Preset::Nasty => Readings::nasty(),
        }
    }

    /// Each doubt resolved in the client's favour; the examples of contract §10.3 hold literally.
    pub fn kind() -> Self {
        Readings {
            collapse_single_lists: false,
            empty_filter: EmptyFilter::Nothing,
            match_name: Matching::PARTIAL_NORMALISED,
            match_tax: Matching::EXACT_NORMALISED,
            match_email: Matching::EXACT_NORMALISED,
            match_phone: Matching::EXACT_NORMALISED,
            paging_past_end: PastEnd::Code2,
            several_filters: SeveralFilters::And,
            clearing: Clearing::Clears,
            top_level_address: TopLevelAddress::FieldByField,
            update_answer: UpdateAnswer::Stored,
            quota_answer: QuotaAnswer::Code5,
            quota_counts_refused: false,
            quota_retry_after_seconds: None,
            code_1_on_write: Code1OnWrite::NotStored,
            omit_opr_code: true,
            booleans: Native::String,
            numbers: Native::String,
            province_key: ProvinceKey::Province,
            lane: Lane::SearchOnly,
            index_lag_seconds: 0,
            changed_in_index: ChangedInIndex::Old,
            read_by_id: ReadById::AtOnce,
            deleted_in_index: DeletedInIndex::Gone,
            over_long: OverLong::Refuse,
            empty_address: EmptyAddress::Made,
            partner_list_count: PartnerListCount::Page,
            errors_echo_key: false,
        }
    }

    /// Each doubt resolved against the client, and look-ups that lag by ten seconds.
    pub fn nasty() -> Self {
        Readings {
            collapse_single_lists: true,
            empty_filter: EmptyFilter::Everybody,
            match_name: Matching::PARTIAL_NORMALISED,
            match_tax: Matching::PARTIAL_RAW,
            match_email: Matching::PARTIAL_NORMALISED,
            match_phone: Matching::PARTIAL_NORMALISED,
            paging_past_end: PastEnd::EmptyList,
            several_filters: SeveralFilters::LastWins,
            clearing: Clearing::Keeps,
            top_level_address: TopLevelAddress::CompleteOnly,
            update_answer: UpdateAnswer::OldPartner,
            quota_answer: QuotaAnswer::Http429,
            quota_counts_refused: true,
            quota_retry_after_seconds: None,
            code_1_on_write: Code1OnWrite::Stored,
            omit_opr_code: true,
            booleans: Native::Native,
            numbers: Native::Native,
            province_key: ProvinceKey::Provice,
            lane: Lane::AllReads,
            index_lag_seconds: 10,
            changed_in_index: ChangedInIndex::Old,
            read_by_id: ReadById::AtOnce,
            deleted_in_index: DeletedInIndex::AfterLag,
            over_long: OverLong::Truncate,
            empty_address: EmptyAddress::Made,
            partner_list_count: PartnerListCount::Total,
            errors_echo_key: true,
        }
    }
}

impl Default for Readings {
    fn default() -> Self {
        Readings::kind()
    }
}
