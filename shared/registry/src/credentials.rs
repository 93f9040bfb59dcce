//! The shape of a system's credentials, and whether somebody's have it. Values are never quoted.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::System;

/// One member of the JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: &'static str,
    /// Vendors show some ids as text and as number.
    pub may_be_number: bool,
}

impl Member {
    pub const fn text(name: &'static str) -> Self {
        Self {
            name,
            may_be_number: false,
        }
    }

    pub const fn text_or_number(name: &'static str) -> Self {
        Self {
            name,
            may_be_number: true,
        }
    }
}

impl System {
    /// For people: `{"secret_key": "...", "company_id": "..."}`.
    pub fn credentials_shape(&self) -> String {
        let members = self.credentials.iter();
        let members: Vec<String> = members
            .map(|member| format!("\"{}\": \"...\"", member.name))
            .collect();
        format!("{{{}}}", members.join(", "))
    }

    /// # Errors
    /// What is missing, unknown or not text.
    pub fn check_credentials(&self, credentials: &SecretString) -> Result<(), String> {
        let object: Map<String, Value> = serde_json::from_str(credentials.expose_secret())
            .map_err(|_quotes_them| "the credentials are not a JSON object".to_owned())?;
        let has = |member: &&Member| match object.get(member.name) {
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Number(_)) => member.may_be_number,
            _ => false,
        };
        if let Some(missing) = self.credentials.iter().find(|member| !has(member)) {
            let name = missing.name;
            return Err(format!("the credentials lack `{name}`, or it is not text"));
        }
        let known = |name: &str| self.credentials.iter().any(|member| member.name == name);
        match object.keys().find(|name| !known(name)) {
            Some(unknown) => Err(format!(
                "the credentials have an unknown member `{unknown}`"
            )),
            None => Ok(()),
        }
    }
}
