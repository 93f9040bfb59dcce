//! Arguments of the broker's address: followed or refused, never swallowed.

use std::ops::RangeInclusive;

use lapin::uri::{AMQPQueryString, SASLMechanism};
use url::Url;

/// What may stand behind the `?`.
const KNOWN: &str = "heartbeat, connection_timeout, channel_max, frame_max, auth_mechanism";
/// In seconds; 0 would switch off what finds out that the broker is gone.
const HEARTBEAT: RangeInclusive<u64> = 1..=3600;
/// In milliseconds.
const CONNECTION_TIMEOUT: RangeInclusive<u64> = 100..=60_000;
/// A worker has a handful of channels on a connection; fewer and it stands still.
const CHANNELS: RangeInclusive<u64> = 32..=65_535;
/// In bytes. No broker takes less than the first, and buffers are made of the second.
const FRAME: RangeInclusive<u64> = 8_192..=1_048_576;
/// Longest name of an argument that is repeated in a message.
const NAME_BYTES: usize = 40;

pub(super) fn read(url: &Url) -> Result<AMQPQueryString, String> {
    let mut found = AMQPQueryString::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in url.query_pairs() {
        if seen.iter().any(|known| *known == name) {
            return Err(format!("must not give {} twice", named(&name)));
        }
        match &*name {
            "heartbeat" => found.heartbeat = Some(number(&name, &value, HEARTBEAT)?),
            "connection_timeout" => {
                found.connection_timeout = Some(number(&name, &value, CONNECTION_TIMEOUT)?);
            }
            "channel_max" => found.channel_max = Some(number(&name, &value, CHANNELS)?),
            "frame_max" => found.frame_max = Some(number(&name, &value, FRAME)?),
            "auth_mechanism" => found.auth_mechanism = Some(mechanism(&value)?),
            other => return Err(refused(other)),
        }
        seen.push(name.into_owned());
    }
    Ok(found)
}

/// What other clients know by these names, and what takes its place here.
fn refused(name: &str) -> String {
    let instead = match name {
        "cacertfile" | "cafile" | "cacert" | "ca_file" | "cacerts" | "capath" | "cadata"
        | "ssl_options" | "ssl_ca_certs" => {
            "the file with the authority's certificate is the setting amqp.ca_file"
        }
        "verify"
        | "verify_ssl"
        | "verify_mode"
        | "no_verify_ssl"
        | "fail_if_no_peer_cert"
        | "depth"
        | "server_name_indication"
        | "ssl" => {
            "amqps:// always verifies the broker's certificate and host; take the argument out, and name an authority of your own in the setting amqp.ca_file"
        }
        "certfile" | "keyfile" | "client_cert" | "password" => {
            "no certificate of ours can be shown to the broker; user and password stand before the host"
        }
        "name" | "connection_name" => "connections are named after their roles",
        "reconnect"
        | "reconnect_interval"
        | "fail_fast"
        | "retry_delay"
        | "connection_attempts" => "the connection is opened again by itself, for ever",
        _ => {
            return format!("must not have {}: known arguments are {KNOWN}", named(name));
        }
    };
    format!("must not have {}: {instead}", named(name))
}

/// An argument by its name, where it looks like one: else it may be a part of a password.
fn named(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if !name.is_empty() && name.len() <= NAME_BYTES && name.bytes().all(plain) {
        format!("the argument `{name}`")
    } else {
        "an argument that is no name".to_owned()
    }
}

fn number<T: TryFrom<u64>>(
    name: &str,
    value: &str,
    range: RangeInclusive<u64>,
) -> Result<T, String> {
    let number = value.parse::<u64>().ok();
    number
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            format!(
                "must have a {name} that is a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
}

fn mechanism(value: &str) -> Result<SASLMechanism, String> {
    match value.to_ascii_lowercase().as_str() {
        "plain" => Ok(SASLMechanism::Plain),
        "amqplain" => Ok(SASLMechanism::AMQPlain),
        "anonymous" => Ok(SASLMechanism::Anonymous),
        _ => Err(
            "must have an auth_mechanism that is plain, amqplain or anonymous: no certificate of ours can be shown to the broker"
                .to_owned(),
        ),
    }
}
