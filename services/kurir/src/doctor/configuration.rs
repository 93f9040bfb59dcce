//! The settings themselves: what is missing, who else may read the secrets in the file, passwords that everybody knows.

use std::path::Path;

use operations::doctor::{Finding, Subject};
use secrecy::{ExposeSecret as _, SecretString};

use crate::context::Context;

const SUBJECT: Subject = Subject::Configuration;
/// Settings that hold a secret.
const SECRET: [&str; 4] = [
    "amqp.url",
    "amqp.management_url",
    "database.url",
    "keys.ring",
];
/// What installers and examples set. A password that equals its user is one of them, whatever it is.
const KNOWN_PASSWORDS: [&str; 9] = [
    "guest", "postgres", "password", "secret", "changeme", "admin", "rabbitmq", "kurir", "1234",
];

pub(super) fn check(context: &Context, file: Option<&Path>) -> Vec<Finding> {
    let settings = context.settings();
    let mut findings = Vec::new();
    if settings.keys.current.is_none() {
        findings.push(Finding::problem(
            SUBJECT,
            "keys",
            "keys.current is not set: workers cannot open credentials",
            "`kurir keys new` makes a key and prints its settings",
        ));
    }
    findings.extend(file.and_then(|file| readable(context, file)));
    let urls = [
        ("amqp.url", &settings.amqp.url),
        ("amqp.management_url", &settings.amqp.management_url),
        ("database.url", &settings.database.url),
    ];
    findings.extend(
        urls.into_iter()
            .filter_map(|(path, url)| known_password(path, url.as_ref()?)),
    );
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "settings", "nothing to object to"));
    }
    findings
}

/// Whether others may read a settings file that holds secrets.
fn readable(context: &Context, file: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    const OTHERS: u32 = 0o077;
    let name = file.display().to_string();
    let shown = &context.loaded.shown;
    shown
        .iter()
        .find(|one| SECRET.contains(&one.path) && one.origin == name)?;
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then(|| {
        Finding::warning(
            SUBJECT,
            "file",
            format!("{name} holds secrets and others may read it (mode {mode:o})"),
            format!("chmod 600 {name}"),
        )
    })
}

fn known_password(path: &str, url: &SecretString) -> Option<Finding> {
    let url = outbound::Url::parse(url.expose_secret()).ok()?;
    let password = url.password()?.to_lowercase();
    let known =
        KNOWN_PASSWORDS.contains(&password.as_str()) || password == url.username().to_lowercase();
    known.then(|| {
        Finding::warning(
            SUBJECT,
            path,
            "the password is one that everybody tries first",
            "set another one at the server, then in the settings (`kurir config` shows where they come from)",
        )
    })
}
