//! The broker's address, read once and by one reader: what is connected to is what doctor and the management API are asked
//! about. Nothing in it is passed over: what cannot be followed is refused, because an address that is followed by half
//! leads somewhere else, or there without what was asked for.
//!
//! The library's own reader takes an IPv6 address for `localhost` and swallows arguments that it does not know.

mod arguments;

use std::net::Ipv6Addr;

use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

/// Longest name of a virtual host: it travels as a short string.
const VIRTUAL_HOST_BYTES: usize = 255;
/// Who one is if the address does not say.
const GUEST: &str = "guest";
/// The virtual host of an address without a path.
const DEFAULT_HOST: &str = "/";

/// `amqp://user:password@host:port/vhost?arguments`, understood whole.
#[derive(Clone, Debug)]
pub struct Address(AMQPUri);

impl Address {
    /// # Errors
    /// What is wrong, to be read behind the setting's name ("must …"). The text repeats nothing that may be a secret.
    pub fn read(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| unreadable(text, error))?;
        let scheme = match url.scheme() {
            "amqp" => AMQPScheme::AMQP,
            "amqps" => AMQPScheme::AMQPS,
            _ => return Err("must begin with amqp:// or amqps://".to_owned()),
        };
        if url.fragment().is_some() {
            return Err("must not hold a `#`: in a user or password it is written %23".to_owned());
        }
        // What was meant as part of a password ended the address's first part.
        if url.path().contains('@') || url.query().is_some_and(|query| query.contains('@')) {
            return Err(
                "must have its `@` before path and arguments: in a user or password `/` is written %2f, `?` %3f, `@` %40"
                    .to_owned(),
            );
        }
        let port = url.port().unwrap_or_else(|| scheme.default_port());
        if port == 0 {
            return Err("must not name port 0".to_owned());
        }
        Ok(Self(AMQPUri {
            scheme,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: match url.username() {
                        "" => GUEST.to_owned(),
                        user => decoded(user, "user")?,
                    },
                    password: url
                        .password()
                        .map_or_else(|| Ok(GUEST.to_owned()), |text| decoded(text, "password"))?,
                },
                host: host(&url)?,
                port,
            },
            vhost: virtual_host(url.path())?,
            query: arguments::read(&url)?,
        }))
    }

    pub fn user(&self) -> &str {
        &self.0.authority.userinfo.username
    }

    /// A name or a number; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.0.authority.host
    }

    pub fn port(&self) -> u16 {
        self.0.authority.port
    }

    pub fn virtual_host(&self) -> &str {
        &self.0.vhost
    }

    pub(crate) fn uri(&self) -> AMQPUri {
        self.0.clone()
    }
}

/// A name as one segment of a path, such as a virtual host or a user in an address of the management API.
pub fn as_segment(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// The parser's own messages are short and hold nothing of the text; what helps is known better here.
fn unreadable(text: &str, error: url::ParseError) -> String {
    const EXPECTED: &str = "must be amqp://user:password@host:port/vhost";
    match error {
        url::ParseError::InvalidIpv6Address if text.contains('%') => format!(
            "{EXPECTED}: an IPv6 address with a zone (`%eth0`) cannot be used; name the host, or an address without"
        ),
        url::ParseError::InvalidIpv6Address => {
            format!("{EXPECTED}: what stands in brackets is no IPv6 address")
        }
        // Without brackets all behind the first colon is taken for the port.
        url::ParseError::InvalidPort => format!(
            "{EXPECTED}: the port is no number up to 65535 (an IPv6 address is written in brackets; in a user or password `:` is written %3a, `/` %2f, `?` %3f, `#` %23, `@` %40)"
        ),
        url::ParseError::EmptyHost => {
            format!("{EXPECTED}: it has no host (an IPv6 address is written in brackets)")
        }
        _ => EXPECTED.to_owned(),
    }
}

fn decoded(text: &str, what: &str) -> Result<String, String> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_not_utf8| format!("must have its {what} in UTF-8"))?;
    if text.contains('\0') {
        return Err(format!("must not have a zero byte in its {what}"));
    }
    Ok(text.into_owned())
}

fn host(url: &Url) -> Result<String, String> {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = decoded(name, "host")?;
            if name.is_empty() || name.contains(|one: char| one.is_whitespace() || one.is_control())
            {
                return Err("must have a host".to_owned());
            }
            if name.contains(',') {
                return Err(
                    "must name one host, not several: a name or a load balancer in front of them"
                        .to_owned(),
                );
            }
            if name.contains(['/', '@', '?', '#', '[', ']']) {
                return Err("must have a host that is a name or an address".to_owned());
            }
            if name.parse::<Ipv6Addr>().is_ok() {
                return Err("must have its IPv6 address in brackets".to_owned());
            }
            Ok(name)
        }
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
        None => Err("must have a host".to_owned()),
    }
}

/// As the specification of AMQP addresses has it: no path is the default virtual host, and `/` alone is one whose name is
/// empty. Nobody has such a one, so whoever writes it means the default one and is told how to say so.
fn virtual_host(path: &str) -> Result<String, String> {
    let name = match path {
        "" => return Ok(DEFAULT_HOST.to_owned()),
        "/" => {
            return Err(
                "must not end in `/`: that is the virtual host with the empty name; write /%2f, or no path, for the default one (`/`)"
                    .to_owned(),
            );
        }
        // As other tools write the default one.
        "//" => return Ok(DEFAULT_HOST.to_owned()),
        path => path.strip_prefix('/').unwrap_or(path),
    };
    if name.contains('/') {
        return Err(
            "must have one virtual host as its path: a `/` in its name (or in user or password) is written %2f"
                .to_owned(),
        );
    }
    let name = decoded(name, "virtual host")?;
    if name.len() > VIRTUAL_HOST_BYTES {
        return Err(format!(
            "must have a virtual host of at most {VIRTUAL_HOST_BYTES} bytes"
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
