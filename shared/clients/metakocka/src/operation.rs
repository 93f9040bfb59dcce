//! The calls and their paths. No rule derives the path family, and the wrong one is an HTML 404 (§1.1).

/// A call of the API.
#[expect(
    clippy::enum_variant_names,
    reason = "calls about other records stand beside them"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    AddPartner,
    GetPartner,
    UpdatePartner,
}

/// What a repeated call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Writes,
}

impl Operation {
    pub const ALL: [Self; 3] = [Self::AddPartner, Self::GetPartner, Self::UpdatePartner];

    /// The call's name in the API and in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::AddPartner => "add_partner",
            Self::GetPartner => "get_partner",
            Self::UpdatePartner => "update_partner",
        }
    }

    /// Relative to the root, family included.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::AddPartner => "v1/add_partner",
            Self::GetPartner => "v1/get_partner",
            Self::UpdatePartner => "v1/update_partner",
        }
    }

    pub(crate) fn effect(self) -> Effect {
        match self {
            Self::GetPartner => Effect::Reads,
            Self::AddPartner | Self::UpdatePartner => Effect::Writes,
        }
    }
}
