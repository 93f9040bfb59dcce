//! An invented system, as small as one can be: `POST pages/NAME` writes a page, `GET pages/NAME` reads it, with a key.
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use simulators::{
    Answer, Done, Error, Fault, Heard, Plan, Request, Sending, Simulated, Step, delay,
};

#[derive(Default)]
pub(crate) struct Notebook {
    pages: BTreeMap<String, Value>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    Read,
    Write,
}
impl From<Call> for &'static str {
    fn from(call: Call) -> Self {
        ["read", "write"][call as usize]
    }
}
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Wrong {
    CommitThenDrop,
    Slow { ms: u64 },
}
impl Fault for Wrong {
    fn name(&self) -> &'static str {
        match self {
            Wrong::CommitThenDrop => "commit_then_drop",
            Wrong::Slow { .. } => "slow",
        }
    }
}
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Noted {
    key: Option<String>,
}

impl Simulated for Notebook {
    const NAME: &'static str = "notebook";
    const ROOT: &'static str = "/pages/";
    const ACCOUNT: &'static str = "key";
    type Call = Call;
    type Fault = Wrong;
    type Noted = Noted;
    type Admitted = (String, Heard<Call, Noted>);
    type Readings = ();
    type Snapshot = BTreeMap<String, Value>;

    fn hear(request: &Request) -> Heard<Call, Noted> {
        let key = request.headers.get("x-key").map(|key| key.to_str());
        let calls = [Call::Read, Call::Write];
        Heard {
            call: Some(calls[usize::from(request.method == "POST")]),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
            noted: Noted {
                key: key.and_then(Result::ok).map(str::to_owned),
            },
        }
    }
    fn account(noted: &Noted) -> Option<&str> {
        noted.key.as_deref()
    }
    fn admit(
        &mut self,
        request: &Request,
        heard: &Heard<Call, Noted>,
        _now: DateTime<Utc>,
    ) -> Result<Self::Admitted, Answer> {
        match heard.noted.key.as_deref() {
            Some("mine") => Ok((request.below("/pages/").to_owned(), heard.clone())),
            _ => Err(Answer::json(401, &json!({}))),
        }
    }
    fn perform(
        &mut self,
        (page, heard): Self::Admitted,
        fault: Option<Wrong>,
        now: DateTime<Utc>,
    ) -> Plan<Noted> {
        let stored = heard.call == Some(Call::Write);
        if stored {
            self.pages.insert(page.clone(), heard.body);
        }
        let whole = Sending::Whole(match self.pages.get(&page) {
            Some(text) => Answer::json(200, text),
            None => Answer::json(404, &json!({})),
        });
        let noted = heard.noted;
        Plan {
            step: match fault {
                None => Step::Now(whole),
                Some(Wrong::CommitThenDrop) => Step::Now(Sending::Drop),
                Some(Wrong::Slow { ms }) => Step::At(now + delay(ms), whole),
            },
            done: Some(Done { stored, noted }),
            put_off: None,
        }
    }
    fn snapshot(&self) -> Self::Snapshot {
        self.pages.clone()
    }
    fn restore(&mut self, pages: Self::Snapshot) -> Result<(), Error> {
        self.pages = pages;
        Ok(())
    }
    fn clear(&mut self) {
        self.pages.clear();
    }
    fn accounts(&self) -> Vec<String> {
        vec!["mine".to_owned()]
    }
}
