//! The two halves of a call: whether it comes in, and what it does, at once or later.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;

use super::call::Call;
use super::company::{Company, Finished};
use super::encode::Encoder;
use super::readings::{QuotaAnswer, Readings};
use super::reply::Reply;
use super::request::{Ordered, Request, Ticket, text_of};
use crate::error::Error;

/// Most calls that a quota counts.
const MAX_QUOTA_CALLS: u32 = 100_000;
/// Most writes of one company that may wait for their time ([`Company::schedule`]).
pub const MAX_SCHEDULED: usize = 10_000;

impl Company {
    /// One whole call at `now`, as if its caller waited for the answer. Writes that are due are done first.
    pub fn call(&mut self, call: Call, body: &[u8], now: DateTime<Utc>) -> Reply {
        match self.admit(call, body, None, now) {
            Ok(request) => self.execute(&request, now),
            Err(reply) => reply,
        }
    }

    /// The first half of a call: credentials, address, quota, strict check, in this order. An error is the answer.
    /// A caller without an address (`None`) is let in by any list.
    pub fn admit(
        &mut self,
        call: Call,
        body: &[u8],
        from: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Request, Reply> {
        self.settle_due(now);
        let request = self.check(call, body, from, now);
        request.map_err(|reply| Encoder(&self.readings).finish(reply))
    }

    fn check(
        &mut self,
        call: Call,
        body: &[u8],
        from: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Request, Reply> {
        let mut sent = Ordered::parse(body)
            .ok_or_else(|| Reply::refused(2, "Request is not a JSON object"))?;
        let key = sent
            .take("secret_key")
            .as_ref()
            .and_then(text_of)
            .unwrap_or_default();
        let company = sent.take("company_id").as_ref().and_then(text_of);
        if company.as_deref() != Some(self.company_id())
            || key != self.options.secret_key.expose_secret()
        {
            return Err(wrong_credentials(&self.readings, &key));
        }
        if let Some(ip) = from
            && !self.options.allowed_ips.is_empty()
            && !self.options.allowed_ips.contains(&ip)
        {
            return Err(ip_not_allowed(ip));
        }
        if self.quota_is_used_up(now) {
            return Err(quota_exceeded(&self.readings));
        }
        if self.strict.is_on() {
            let unknown = call.unknown_fields(&sent.0);
            if !unknown.is_empty() {
                let text = format!("Unknown field : {}", unknown.join(", "));
                self.strict.refused(now, call, unknown);
                return Err(Reply::refused(2, &text));
            }
        }
        Ok(Request {
            call,
            fields: sent.0,
        })
    }

    fn quota_is_used_up(&mut self, now: DateTime<Utc>) -> bool {
        let Some(quota) = self.options.quota else {
            return false;
        };
        let calls = quota.calls.min(MAX_QUOTA_CALLS) as usize;
        let begin = now - TimeDelta::seconds(quota.per_seconds.into());
        while self.quota_calls.front().is_some_and(|at| *at <= begin) {
            self.quota_calls.pop_front();
        }
        let refused = self.quota_calls.len() >= calls;
        if !refused {
            self.quota_calls.push_back(now);
        } else if self.readings.quota_counts_refused {
            // The newest calls fill the quota: who goes on knocking stays out.
            self.quota_calls.pop_front();
            self.quota_calls.push_back(now);
        }
        refused
    }

    /// The second half: does the call. The state changes completely or not at all.
    pub fn execute(&mut self, request: &Request, now: DateTime<Utc>) -> Reply {
        self.settle_due(now);
        self.execute_alone(request, now)
    }

    fn execute_alone(&mut self, request: &Request, now: DateTime<Utc>) -> Reply {
        let reply = match request.call {
            Call::AddPartner => self.add_partner(request, now),
            Call::GetPartner => self.get_partner(request, now),
            Call::UpdatePartner => self.update_partner(request, now),
        };
        let reply = reply.unwrap_or_else(|refusal| refusal);
        Encoder(&self.readings).finish(reply)
    }

    /// Puts the second half off to `due`, whether or not anybody still waits for it. It happens before anything that comes later.
    pub fn schedule(&mut self, request: Request, due: DateTime<Utc>) -> Result<Ticket, Error> {
        if self.scheduled.len() >= MAX_SCHEDULED {
            return Err(Error::Full(
                "more writes wait for their time than MAX_SCHEDULED",
            ));
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.scheduled.insert((due, ticket), request);
        Ok(ticket)
    }

    /// How many writes still wait for their time.
    pub fn scheduled(&self) -> usize {
        self.scheduled.len()
    }

    /// Does every write that is due and returns those done since this was last asked.
    pub fn settle(&mut self, now: DateTime<Utc>) -> Vec<Finished> {
        self.settle_due(now);
        self.finished.drain(..).collect()
    }

    fn settle_due(&mut self, now: DateTime<Utc>) {
        while let Some(entry) = self.scheduled.first_entry() {
            let (due, ticket) = *entry.key();
            if due > now {
                return;
            }
            let request = entry.remove();
            let reply = self.execute_alone(&request, due);
            if self.finished.len() >= MAX_SCHEDULED {
                self.finished.pop_front();
            }
            self.finished.push_back(Finished {
                ticket,
                at: due,
                reply,
            });
        }
    }
}

pub(crate) fn wrong_credentials(readings: &Readings, key: &str) -> Reply {
    let echo = if readings.errors_echo_key {
        format!(" (secret_key = {key})")
    } else {
        String::new()
    };
    Reply::refused(
        3,
        &format!("Invalid value for secret_key and company_id{echo}"),
    )
}

pub(crate) fn ip_not_allowed(ip: IpAddr) -> Reply {
    Reply::refused(4, &format!("IP address {ip} is not allowed"))
}

pub(crate) fn quota_exceeded(readings: &Readings) -> Reply {
    match readings.quota_answer {
        QuotaAnswer::Code5 => Reply::refused(5, "Quote exceeds"),
        QuotaAnswer::Http429 => Reply {
            retry_after: readings.quota_retry_after_seconds,
            ..Reply::page(429)
        },
    }
}
