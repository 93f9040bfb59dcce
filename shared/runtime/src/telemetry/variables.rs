//! The environment, as the readers of its parts see it.

/// A variable; empty is absent, as the specification has it.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;
