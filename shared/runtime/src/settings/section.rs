//! Settings that a service owns: a table of its own in the file, with its defaults and its rules.

use serde_json::Value;

use super::configuration_error::ConfigurationError;
use super::rule::Rule;

/// One table of the settings.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The table's name; every rule's path begins with it.
    pub name: &'static str,
    /// Commented TOML: the table with the default of each of its settings.
    pub defaults: &'static str,
    /// One row per setting, in the order in which they are shown.
    pub rules: &'static [Rule],
    /// Rules between its settings; asked with the table, once each of them is right by itself.
    pub between: fn(&Value) -> Vec<ConfigurationError>,
}

impl Section {
    /// Whether each default has a rule and keeps it, and each rule a default. For the test of whoever owns the section.
    ///
    /// # Errors
    /// Names the settings that do not.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let whole: toml::Table =
            toml::from_str(self.defaults).map_err(|error| vec![error.to_string()])?;
        let table = whole.get(self.name).and_then(toml::Value::as_table);
        let Some(table) = table.filter(|_| whole.len() == 1) else {
            return Err(vec![format!(
                "the defaults are not one table [{}]",
                self.name
            )]);
        };
        let path = |name: &str| format!("{}.{name}", self.name);
        let mut wrong: Vec<String> = table
            .iter()
            .filter(|(name, value)| {
                let rule = self.rules.iter().find(|rule| rule.path == path(name));
                let value = serde_json::to_value(value).unwrap_or_default();
                rule.is_none_or(|rule| rule.kind.read(&value).is_err())
            })
            .map(|(name, _)| path(name))
            .collect();
        let known: Vec<String> = table.keys().map(|name| path(name)).collect();
        let without = self.rules.iter().map(|rule| rule.path.to_owned());
        wrong.extend(without.filter(|path| !known.contains(path)));
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}
