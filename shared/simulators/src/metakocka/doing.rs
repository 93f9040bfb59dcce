//! A call that was let in, done or not done as its fault wants it, and how Metakocka's answers go onto the wire.

use std::net::IpAddr;

use axum::http::header::RETRY_AFTER;
use chrono::{DateTime, Utc};
use hyper::header::HeaderValue;

use super::core;
use super::core::{
    Body, Code1OnWrite, Company, Reply, Request, ip_not_allowed, quota_exceeded, wrong_credentials,
};
use super::fault::{CommitPoint, Fault, LateAnswer};
use super::log::Noted;
use crate::fault::delay;
use crate::plan::{Answer, Done, Plan, Says, Sending, Step, Ticket};

/// Code 1 as the sources have it.
const UNKNOWN_ERROR: &str = "Unknown internal server error";
/// Stands in an echo of the fault `auth`, which comes after the key was found right.
const HIDDEN_KEY: &str = "***";

/// One call at its company.
pub(super) struct Doing<'a> {
    company: &'a mut Company,
    request: Request,
    now: DateTime<Utc>,
    done: Option<Done<Noted>>,
    put_off: Option<Ticket>,
}

impl<'a> Doing<'a> {
    pub(super) fn new(company: &'a mut Company, request: Request, now: DateTime<Utc>) -> Self {
        Doing {
            company,
            request,
            now,
            done: None,
            put_off: None,
        }
    }

    /// Does it, with this fault.
    pub(super) fn with(mut self, fault: Option<Fault>, from: IpAddr) -> Plan<Noted> {
        let step = match fault {
            Some(fault) => self.hit_by(fault, from),
            None => Step::Now(Sending::Whole(self.commit())),
        };
        Plan {
            step,
            done: self.done,
            put_off: self.put_off,
        }
    }

    fn hit_by(&mut self, fault: Fault, from: IpAddr) -> Step {
        let readings = self.company.readings().clone();
        let stored = match &fault {
            Fault::Code1 => readings.code_1_on_write == Code1OnWrite::Stored,
            Fault::Code1Stored
            | Fault::CommitThenDrop
            | Fault::CommitThenReset
            | Fault::CutAnswer
            | Fault::Garbled
            | Fault::LyingRefusal { .. } => true,
            _ => false,
        };
        // Nobody hears it where the connection is lost.
        let right = if stored { self.commit() } else { self.code1() };
        Step::Now(match fault {
            Fault::Reset | Fault::CommitThenReset => Sending::Reset,
            Fault::Drop | Fault::CommitThenDrop => Sending::Drop,
            Fault::CutAnswer => Sending::Cut(right),
            Fault::Garbled | Fault::GarbledNotStored => Sending::Garbled(right),
            Fault::Code1 | Fault::Code1Stored | Fault::Code1NotStored => {
                Sending::Whole(self.code1())
            }
            Fault::Error { status } => Sending::Whole(Answer::page(status)),
            Fault::Maintenance => Sending::Whole(Answer::page(503)),
            Fault::Quota => Sending::Whole(self.say(quota_exceeded(&readings))),
            Fault::Auth { code: 4 } => Sending::Whole(self.say(ip_not_allowed(from))),
            Fault::Auth { .. } => {
                Sending::Whole(self.say(wrong_credentials(&readings, HIDDEN_KEY)))
            }
            Fault::Refuse { code, text } | Fault::LyingRefusal { code, text } => {
                Sending::Whole(self.say(Reply::refused(code, &text)))
            }
            Fault::Slow { ms, commit } => return self.slow(ms, commit),
            Fault::CommitLate { after_ms, answer } => return self.late(after_ms, answer),
        })
    }

    fn slow(&mut self, ms: u64, commit: CommitPoint) -> Step {
        let due = self.now + delay(ms);
        match commit {
            CommitPoint::AtOnce => Step::At(due, Sending::Whole(self.commit())),
            CommitPoint::AtEnd => match self.put_off(due) {
                Some(ticket) => Step::WhenDone(due, ticket),
                None => Step::Now(Sending::Whole(Answer::page(503))),
            },
        }
    }

    fn late(&mut self, after_ms: u64, answer: LateAnswer) -> Step {
        if self.put_off(self.now + delay(after_ms)).is_none() {
            return Step::Now(Sending::Whole(Answer::page(503)));
        }
        Step::Now(match answer {
            LateAnswer::Error => Sending::Whole(Answer::page(504)),
            LateAnswer::Code1 => Sending::Whole(self.code1()),
            LateAnswer::Drop => Sending::Drop,
            LateAnswer::Reset => Sending::Reset,
            LateAnswer::Nothing => Sending::Never,
        })
    }

    fn code1(&self) -> Answer {
        self.say(Reply::refused(1, UNKNOWN_ERROR))
    }

    /// An answer that was not made by the call, in the company's form.
    fn say(&self, reply: Reply) -> Answer {
        answer(self.company.dress(reply))
    }

    fn commit(&mut self) -> Answer {
        let reply = self.company.execute(&self.request, self.now);
        self.done = Some(done(self.company, &reply));
        answer(reply)
    }

    /// `None`: more writes wait for their time than may.
    fn put_off(&mut self, due: DateTime<Utc>) -> Option<Ticket> {
        let given = self.company.schedule(self.request.clone(), due).ok()?;
        self.put_off = Some(ticket(self.company, given));
        self.put_off.clone()
    }
}

/// A company's ticket, for the whole simulator.
pub(super) fn ticket(company: &Company, given: core::Ticket) -> Ticket {
    Ticket {
        account: company.company_id().to_owned(),
        number: given.0,
    }
}

/// What a call did, for the log.
pub(super) fn done(company: &Company, reply: &Reply) -> Done<Noted> {
    Done {
        stored: reply.seen.stored,
        noted: Noted {
            company_id: Some(company.company_id().to_owned()),
            mk_id: reply.seen.mk_id,
        },
    }
}

/// A reply as it goes onto the wire.
pub(super) fn answer(reply: Reply) -> Answer {
    let (content_type, body, says) = match reply.body {
        Body::Html(page) => ("text/html", page, Says::Page),
        Body::Json(body) => {
            let says = reply.seen.refused.map_or(Says::Success, Says::Refusal);
            ("application/json;charset=UTF-8", body.to_string(), says)
        }
    };
    let mut answer = Answer::new(reply.status, content_type, body, says);
    if let Some(seconds) = reply.retry_after {
        answer
            .headers
            .push((RETRY_AFTER, HeaderValue::from(seconds)));
    }
    answer
}
