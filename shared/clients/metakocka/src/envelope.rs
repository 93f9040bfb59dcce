//! From a reply, or its absence, to a payload or an error (§1.5).

use std::time::Duration;

use outbound::{CallError, Redactor, Reply, StatusClass, Unknown};
use serde_json::{Map, Value};

use crate::decode::as_text;
use crate::error::{Code, Doubt, Error};
use crate::operation::Effect;

/// How long a quota answer without a hint keeps us away (§1.7).
const COOLDOWN: Duration = Duration::from_secs(60);

/// Words of a quota text; code 5 with any other text is a refusal (§9.30).
const QUOTA_WORDS: [&str; 3] = ["quote exceed", "quota", "kvot"];

/// Refusals under which nothing is stored (§1.5, §8 step 6).
const STORED_NOTHING: [&str; 4] = ["2", "5", "6", "8"];

/// The JSON object of an answer that carries no error. Whether the expected payload is in it, is for the caller to see.
pub(crate) fn open(
    effect: Effect,
    outcome: Result<Reply, CallError>,
    redactor: &Redactor,
) -> Result<Map<String, Value>, Error> {
    let reply = outcome.map_err(|error| unanswered(effect, error))?;
    let excerpt = || explanation(&reply.body, redactor);
    match reply.class() {
        StatusClass::Success => match object(&reply.body) {
            Some(object) => judge(effect, object, redactor),
            None => Err(doubtful(effect, Doubt::Garbled, None, excerpt())),
        },
        StatusClass::Credentials => Err(Error::Credentials { text: excerpt() }),
        StatusClass::NotFound => Err(Error::NoSuchCall { text: excerpt() }),
        StatusClass::TooMany => Err(Error::Quota {
            retry_after: reply.retry_after.unwrap_or(COOLDOWN),
            named: reply.retry_after.is_some(),
            text: excerpt(),
        }),
        StatusClass::Refused => refused(effect, &reply, redactor),
        StatusClass::Redirect
        | StatusClass::RequestTimeout
        | StatusClass::Server
        | StatusClass::Odd => {
            let doubt = Doubt::Status(reply.status.as_u16());
            Err(doubtful(effect, doubt, reply.retry_after, excerpt()))
        }
    }
}

/// An answer in which the payload is missing or unreadable.
pub(crate) fn without_payload(effect: Effect, problem: String) -> Error {
    doubtful(effect, Doubt::NoPayload, None, problem)
}

fn unanswered(effect: Effect, error: CallError) -> Error {
    match error {
        CallError::NotSent { kind, detail } => Error::NotSent { kind, text: detail },
        CallError::Limited { until, reason } => Error::Limited { until, reason },
        CallError::Unknown { kind, detail, .. } => {
            let doubt = match kind {
                Unknown::Timeout => Doubt::TimedOut,
                Unknown::Lost => Doubt::ConnectionLost,
                Unknown::BrokenReply | Unknown::TooLarge => Doubt::Broken,
            };
            doubtful(effect, doubt, None, detail)
        }
    }
}

/// 400 and its like come from a gateway; only with a code inside did Metakocka itself answer.
fn refused(
    effect: Effect,
    reply: &Reply,
    redactor: &Redactor,
) -> Result<Map<String, Value>, Error> {
    if let Some(object) = object(&reply.body)
        && let Err(error) = judge(effect, object, redactor)
    {
        return Err(error);
    }
    let text = explanation(&reply.body, redactor);
    let status = reply.status.as_u16();
    Err(match effect {
        Effect::Writes => Error::Ambiguous {
            doubt: Doubt::Status(status),
            text,
        },
        Effect::Reads => Error::Unlisted {
            code: Code {
                number: format!("http {status}"),
                app: None,
            },
            text,
        },
    })
}

fn object(body: &[u8]) -> Option<Map<String, Value>> {
    // Some servers begin their texts with a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).ok()
}

fn judge(
    effect: Effect,
    object: Map<String, Value>,
    redactor: &Redactor,
) -> Result<Map<String, Value>, Error> {
    let field = |name: &str| {
        let value = object.get(name).cloned().unwrap_or(Value::Null);
        as_text(value).map(|text| text.map(|text| text.trim().to_owned()))
    };
    let Ok(code) = field("opr_code") else {
        return Err(doubtful(
            effect,
            Doubt::Garbled,
            None,
            "opr_code is no text".to_owned(),
        ));
    };
    let number = match code.as_deref() {
        // Several successful answers carry no code at all.
        None | Some("" | "0") => return Ok(object),
        Some(number) => redactor.text(number),
    };
    let app = field("opr_code_app").ok().flatten();
    let code = Code {
        app: app.map(|app| redactor.text(&app)),
        number,
    };
    Err(meaning(effect, code, redactor.text(&texts(&object))))
}

/// What an answer says about its error.
fn texts(object: &Map<String, Value>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for name in ["opr_desc", "opr_desc_app", "error_desc"] {
        let value = object.get(name).cloned().unwrap_or(Value::Null);
        if let Ok(Some(text)) = as_text(value)
            && !texts.contains(&text)
        {
            texts.push(text);
        }
    }
    texts.join("; ")
}

/// What a useless answer has to say: a page's beginning, but of JSON only the error texts, because the rest is people.
fn explanation(body: &[u8], redactor: &Redactor) -> String {
    if let Some(object) = object(body) {
        return redactor.text(&texts(&object));
    }
    match body.trim_ascii_start().first() {
        Some(b'{' | b'[') => format!("{} bytes of unusable json", body.len()),
        Some(_) | None => redactor.excerpt(body),
    }
}

fn meaning(effect: Effect, code: Code, text: String) -> Error {
    match (code.number.as_str(), effect) {
        ("3" | "4", _) => Error::Credentials { text },
        ("5", _) if is_quota(&text) => Error::Quota {
            retry_after: COOLDOWN,
            named: false,
            text,
        },
        (listed, _) if STORED_NOTHING.contains(&listed) => Error::Refused { code, text },
        ("1", Effect::Reads) => doubtful(effect, Doubt::Code(code), None, text),
        (_, Effect::Reads) => Error::Unlisted { code, text },
        (_, Effect::Writes) => doubtful(effect, Doubt::Code(code), None, text),
    }
}

fn is_quota(text: &str) -> bool {
    let text = text.to_lowercase();
    QUOTA_WORDS.iter().any(|word| text.contains(word))
}

fn doubtful(effect: Effect, doubt: Doubt, retry_after: Option<Duration>, text: String) -> Error {
    match effect {
        Effect::Writes => Error::Ambiguous { doubt, text },
        Effect::Reads => Error::Transient {
            doubt,
            retry_after,
            text,
        },
    }
}
