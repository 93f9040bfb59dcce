//! The database's address. The library swallows arguments that it does not know and some that it knows; whoever wrote them
//! believed that they hold, so here they are refused at the start.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// What may stand behind the `?`: what the library follows, under all its names.
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];
/// One setting of the session each: `options[lock_timeout]=1s`.
const SESSION_SETTING: &str = "options[";
const ROOTS: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];
const CERTIFICATES: [&str; 2] = ["sslcert", "ssl-cert"];
const KEYS: [&str; 2] = ["sslkey", "ssl-key"];
/// Where certificates may stand in the address itself.
const INLINE: &str = "-----BEGIN";
/// Longest name of an argument that is repeated in a message.
const NAME_BYTES: usize = 40;
const ONE_HOST: &str = "must name one host, not several: a name or an address that follows the primary (target_session_attrs is not known here)";

/// Whether a pool can be made of it, and everything in it will hold.
///
/// # Errors
/// What is wrong, to be read behind the setting's name ("must …"). The text repeats nothing that may be a secret.
pub fn check(text: &str) -> Result<(), String> {
    options(text).map(|_options| ())
}

/// As the library takes it, with the certificates that an encrypted and verified connection believes.
pub(crate) fn options(text: &str) -> Result<PgConnectOptions, String> {
    let url = Url::parse(text).map_err(|error| unreadable(text, error))?;
    if !["postgres", "postgresql"].contains(&url.scheme()) {
        return Err("must begin with postgres:// or postgresql://".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not hold a `#`: in a user or password it is written %23".to_owned());
    }
    if url.path().contains('@') {
        return Err(
            "must have its `@` before the path: in a user or password `/` is written %2f, `@` %40"
                .to_owned(),
        );
    }
    if url.host_str().is_some_and(names_several) {
        return Err(ONE_HOST.to_owned());
    }
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in url.query_pairs() {
        known(&name, &value)?;
        if seen.iter().any(|known| *known == name) {
            return Err(format!("must not give {} twice", named(&name)));
        }
        seen.push(name.into_owned());
    }
    // Its messages can repeat values.
    let options = PgConnectOptions::from_str(text)
        .map_err(|_unsaid| "must be postgres://user:password@host:port/database".to_owned())?;
    let options = match options.get_host().strip_prefix('[') {
        // The library would look for a host with this name.
        Some(address) => {
            let address = address.trim_end_matches(']').to_owned();
            options.host(&address)
        }
        None => options,
    };
    with_authorities(options, &url)
}

fn unreadable(text: &str, error: url::ParseError) -> String {
    const EXPECTED: &str = "must be postgres://user:password@host:port/database";
    let authority = text
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    match error {
        url::ParseError::InvalidPort if authority.is_some_and(names_several) => ONE_HOST.to_owned(),
        url::ParseError::InvalidPort => format!(
            "{EXPECTED}: the port is no number up to 65535 (an IPv6 address is written in brackets; in a user or password `:` is written %3a, `/` %2f, `?` %3f, `#` %23, `@` %40)"
        ),
        url::ParseError::InvalidIpv6Address => format!(
            "{EXPECTED}: what stands in brackets is no IPv6 address (one with a zone cannot be used)"
        ),
        _ => EXPECTED.to_owned(),
    }
}

fn names_several(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.contains(',') || host.contains("%2c")
}

fn known(name: &str, value: &str) -> Result<(), String> {
    if name.starts_with(SESSION_SETTING) && name.ends_with(']') {
        return Ok(());
    }
    if !KNOWN.contains(&name) {
        return Err(refused(name));
    }
    let must = |what: &str| Err(format!("must have {what} as its {name}"));
    match name {
        "sslmode" | "ssl-mode" if value.parse::<PgSslMode>().is_err() => {
            must("disable, allow, prefer, require, verify-ca or verify-full")
        }
        "host" if names_several(value) => Err(ONE_HOST.to_owned()),
        "hostaddr" if value.parse::<IpAddr>().is_err() => must("one address"),
        "port" if value.parse::<u16>().is_err() => must("a number up to 65535"),
        "statement-cache-capacity" if value.parse::<usize>().is_err() => must("a number"),
        _ => Ok(()),
    }
}

/// What `psql` and others know by these names.
fn refused(name: &str) -> String {
    let why = match name {
        "target_session_attrs" | "load_balance_hosts" => {
            return format!("must not have {}: {ONE_HOST}", named(name));
        }
        "channel_binding"
        | "gssencmode"
        | "requiressl"
        | "sslnegotiation"
        | "ssl"
        | "ssl_min_protocol_version"
        | "ssl_max_protocol_version"
        | "sslsni"
        | "sslcrl"
        | "sslcrldir"
        | "sslcompression"
        | "sslcertmode"
        | "sslpassword"
        | "require_auth" => {
            "it would not hold; sslmode=verify-full is the strictest that can be asked for"
        }
        "connect_timeout"
        | "tcp_user_timeout"
        | "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count" => {
            "it would not hold; a server that does not answer is tried again for ever"
        }
        "pool_max_conns" | "connection_limit" | "pool_timeout" | "pgbouncer" => {
            "the size of the pool is the setting database.max_connections"
        }
        "schema" | "currentSchema" | "search_path" => "write options[search_path]=…",
        _ => {
            return format!(
                "must not have {}: known arguments are sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, dbname, user, password, application_name, options",
                named(name)
            );
        }
    };
    format!("must not have {}: {why}", named(name))
}

/// An argument by its name, where it looks like one: else it may be a part of a password.
fn named(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    if !name.is_empty() && name.len() <= NAME_BYTES && name.bytes().all(plain) {
        format!("the argument `{name}`")
    } else {
        "an argument that is no name".to_owned()
    }
}

/// The last value of an argument that has several names.
fn given(url: &Url, names: &[&str]) -> Option<String> {
    let given = url
        .query_pairs()
        .filter(|(name, _)| names.contains(&&**name));
    given.last().map(|(_, value)| value.into_owned())
}

/// With `sslrootcert` that file, else this machine's own store; the library adds the well-known ones.
fn with_authorities(options: PgConnectOptions, url: &Url) -> Result<PgConnectOptions, String> {
    let (certificate, key) = (given(url, &CERTIFICATES), given(url, &KEYS));
    if certificate.is_some() != key.is_some() {
        return Err("must give sslcert and sslkey together".to_owned());
    }
    for file in [certificate, key].into_iter().flatten() {
        let readable = file.trim().starts_with(INLINE) || std::fs::File::open(&file).is_ok();
        if !readable {
            return Err("must have files that can be read as its sslcert and sslkey".to_owned());
        }
    }
    let verifies = matches!(
        options.get_ssl_mode(),
        PgSslMode::VerifyCa | PgSslMode::VerifyFull
    );
    let roots = given(url, &ROOTS);
    if roots.is_some() && !verifies {
        return Err(
            "must have sslmode=verify-full (or verify-ca) beside its sslrootcert: else no certificate is looked at"
                .to_owned(),
        );
    }
    if !verifies {
        return Ok(options);
    }
    let believed = match roots {
        Some(text) if text.trim().starts_with(INLINE) => trust::of_pem(text.as_bytes()),
        // As newer versions of `psql` know it.
        Some(text) if text == "system" => Ok(trust::of_system()),
        Some(file) => trust::of_file(Path::new(&file)),
        // Named in the environment: the library reads it.
        None if std::env::var_os("PGSSLROOTCERT").is_some() => return Ok(options),
        None => Ok(trust::of_system()),
    };
    let believed = believed.map_err(|error| format!("has an sslrootcert that {error}"))?;
    if believed.is_empty() {
        return Ok(options);
    }
    Ok(options.ssl_root_cert_from_pem(trust::pem(&believed).into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{check, options};

    #[track_caller]
    fn refused(text: &str, says: &str) {
        let problem = check(text).err();
        let problem = problem.unwrap_or_else(|| panic!("{text} was taken"));
        assert!(problem.contains(says), "{text}: {problem}");
        assert!(!problem.contains("s3cret"), "{text}: {problem}");
    }

    #[test]
    fn what_the_library_follows_is_taken() {
        for text in [
            "postgres://kurir:p%2f@db.example:5432/kurir",
            "postgresql://db/kurir?sslmode=require",
            "postgres://db/kurir?sslmode=verify-full",
            "postgres://db/kurir?sslmode=verify-full&sslrootcert=system",
            "postgres://db/kurir?application_name=x&options=-c%20lock_timeout%3D1s",
            "postgres://db/kurir?options[lock_timeout]=1s&options[search_path]=a",
            "postgres://%2Fvar%2Frun%2Fpostgresql/kurir",
            "postgres://localhost/kurir?host=/var/run/postgresql&user=me@server",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let address = options("postgres://u:p@[::1]:5433/kurir").expect("an address");
        assert_eq!((address.get_host(), address.get_port()), ("::1", 5433));
    }

    #[test]
    fn what_would_not_hold_is_refused_with_what_to_write() {
        for (text, says) in [
            ("mysql://u:s3cret@db/kurir", "postgres://"),
            ("postgres://a,b/kurir", "one host"),
            ("postgres://u:s3cret@a:5432,b:5433/kurir", "one host"),
            ("postgres://a%2Cb/kurir", "one host"),
            ("postgres://a/kurir?host=a,b", "one host"),
            (
                "postgres://a/kurir?host=a,b&target_session_attrs=read-write",
                "one host",
            ),
            (
                "postgres://a/kurir?target_session_attrs=read-write",
                "follows the primary",
            ),
            ("postgres://a/kurir?connect_timeout=5", "would not hold"),
            (
                "postgres://a/kurir?channel_binding=require",
                "would not hold",
            ),
            (
                "postgres://a/kurir?sslmod=verify-full",
                "`sslmod`: known arguments are sslmode",
            ),
            ("postgres://a/kurir?foo=s3cret", "`foo`"),
            ("postgres://user:12?s3cret@h/kurir", "no name"),
            ("postgres://user:12#s3cret@h/kurir", "%23"),
            ("postgres://user:12/s3cret@h/kurir", "%2f"),
            ("postgres://user:s3cret?x@h/kurir", "%3f"),
            ("postgres://[fe80::1%25eth0]/kurir", "zone"),
            ("postgres://a/kurir?sslmode=s3cret", "verify-full"),
            (
                "postgres://a/kurir?sslmode=disable&sslmode=verify-full",
                "twice",
            ),
            ("postgres://a/kurir?port=s3cret", "number"),
            ("postgres://a/kurir?hostaddr=s3cret", "one address"),
            (
                "postgres://a/kurir?sslrootcert=/etc/hostname",
                "sslmode=verify-full",
            ),
            (
                "postgres://a/kurir?sslmode=require&sslrootcert=/etc/hostname",
                "sslmode=verify-full",
            ),
            (
                "postgres://a/kurir?sslmode=verify-full&sslrootcert=/none.pem",
                "can be read",
            ),
            (
                "postgres://a/kurir?sslmode=verify-ca&ssl-ca=/etc/hostname",
                "PEM",
            ),
            ("postgres://a/kurir?sslcert=/etc/hostname", "together"),
            (
                "postgres://a/kurir?sslcert=/none.pem&sslkey=/none.key",
                "can be read",
            ),
        ] {
            refused(text, says);
        }
    }
}
