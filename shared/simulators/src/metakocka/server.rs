//! The partner's calls over HTTP: which company, which fault, what goes onto the wire.
//!
//! A call is done by a task of its own. It goes on when its caller gives up, as a real server would: that is what makes "given up,
//! and stored all the same" happen.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body as HttpBody, to_bytes};
use chrono::{DateTime, Utc};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::core::{
    Call, Code1OnWrite, Company, Lane, Ordered, Readings, Reply, Request as Admitted, Ticket,
    ip_not_allowed, quota_exceeded, wrong_credentials,
};
use super::fault::{CommitPoint, Fault, LateAnswer, delay};
use super::log::{LogEntry, Outcome, kept_body};
use super::shared::Shared;
use super::socket::Ending;
use super::wire::{Manner, NoAnswer, Wire, respond, what_is_sent};
use super::world::{LateReply, World};

/// Where the calls begin, as at the real host.
pub(super) const ROOT: &str = "/rest/eshop/";
/// Longest body of a call, in bytes; a longer one gets HTTP 413.
const MAX_BODY: usize = 1024 * 1024;
/// Code 1 as the sources have it.
const UNKNOWN_ERROR: &str = "Unknown internal server error";
/// Stands in an echo of the fault `auth`, which comes after the key was found right.
const HIDDEN_KEY: &str = "***";
/// Characters of a path that the log keeps.
const MAX_LOGGED_PATH: usize = 200;

/// What remains to be done for a call after the look at the state.
enum Plan {
    Now(Wire),
    /// Wait, then send this.
    Then(DateTime<Utc>, Wire),
    /// Wait for the write that was put off, then send what became of it.
    Late(DateTime<Utc>, Ticket),
}

/// Answers one request below [`ROOT`] (or anywhere else that isn't the simulator's own).
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    from: IpAddr,
    ending: Ending,
) -> Result<Response<HttpBody>, NoAnswer> {
    let path = request.uri().path().to_owned();
    let path = path.strip_prefix(ROOT).unwrap_or("").to_owned();
    let method = request.method().clone();
    let Ok(body) = to_bytes(HttpBody::new(request.into_body()), MAX_BODY).await else {
        return respond(Wire::whole(Reply::page(413)), &ending);
    };
    let (send, receive) = oneshot::channel();
    let task = Arc::clone(&shared);
    shared.calls.spawn(async move {
        tokio::select! {
            () = do_and_tell(&task, &method, &path, &body, from, send) => {}
            () = task.stopped.cancelled() => {}
        }
    });
    match receive.await {
        Ok(wire) => respond(wire, &ending),
        Err(_) => Err(NoAnswer),
    }
}

async fn do_and_tell(
    shared: &Shared,
    method: &Method,
    path: &str,
    body: &[u8],
    from: IpAddr,
    mut send: oneshot::Sender<Wire>,
) {
    let (seq, wire) = handle(shared, method, path, body, from, &mut send).await;
    if wire.manner == Manner::Never {
        send.closed().await;
        shared
            .world()
            .log
            .tell(seq, |entry| entry.outcome = Outcome::CallerLeft);
        return;
    }
    // Told to the log before the caller: who has the answer finds it in the log.
    let now = shared.clock.now();
    shared.world().log.tell(seq, |entry| {
        (entry.outcome, entry.status) = what_is_sent(&wire);
        entry.refused = if entry.outcome == Outcome::Refused {
            wire.reply.seen.refused
        } else {
            None
        };
        entry.answered_at = Some(now);
    });
    if send.send(wire).is_err() {
        shared
            .world()
            .log
            .tell(seq, |entry| entry.outcome = Outcome::CallerLeft);
    }
}

/// Does one call; returns its place in the log and what the caller shall get.
async fn handle(
    shared: &Shared,
    method: &Method,
    path: &str,
    body: &[u8],
    from: IpAddr,
    caller: &mut oneshot::Sender<Wire>,
) -> (u64, Wire) {
    let call = Call::at_path(path);
    let company_id = Ordered::parse(body).and_then(|fields| fields.company_id());
    let call = match call {
        Some(call) if method == Method::POST => call,
        built => {
            let status = if built.is_some() { 405 } else { 404 };
            let entry = log_entry(shared.clock.now(), path, None, company_id, body);
            return (
                shared.world().log_call(entry),
                Wire::whole(Reply::page(status)),
            );
        }
    };
    let _lane = wait_for_lane(shared, call, company_id.as_deref()).await;
    let (seq, plan) = {
        let mut world = shared.world();
        let now = shared.clock.now();
        let seq = world.log_call(log_entry(now, path, Some(call), company_id.clone(), body));
        (
            seq,
            begin(
                &mut world,
                Asked {
                    seq,
                    call,
                    company_id: company_id.as_deref(),
                    body,
                    from,
                    now,
                },
            ),
        )
    };
    let wire = match plan {
        Plan::Now(wire) => wire,
        Plan::Then(due, wire) => {
            wait(shared, due, seq, caller).await;
            wire
        }
        Plan::Late(due, ticket) => loop {
            wait(shared, due, seq, caller).await;
            let late = shared
                .world()
                .take_late(company_id.as_deref().unwrap_or_default(), ticket);
            match late {
                LateReply::Done(reply) => break Wire::whole(reply),
                LateReply::Forgotten => break Wire::whole(Reply::page(503)),
                // The real clock may run a hair behind the timer.
                LateReply::NotYet => tokio::task::yield_now().await,
            }
        },
    };
    (seq, wire)
}

/// Waits for a time, whether or not the caller does; that he left is seen in the log at once.
async fn wait(shared: &Shared, due: DateTime<Utc>, seq: u64, caller: &mut oneshot::Sender<Wire>) {
    tokio::select! {
        () = shared.clock.sleep_until(due) => return,
        () = caller.closed() => {}
    }
    shared
        .world()
        .log
        .tell(seq, |entry| entry.outcome = Outcome::CallerLeft);
    shared.clock.sleep_until(due).await;
}

/// Waits for the reads before this one, where the readings say that reads of a company run one after another.
async fn wait_for_lane(
    shared: &Shared,
    call: Call,
    company_id: Option<&str>,
) -> Option<OwnedMutexGuard<()>> {
    let company_id = company_id.filter(|_| !call.writes())?;
    let lane = shared.world().company(company_id).ok()?.readings().lane;
    if lane == Lane::SearchOnly {
        return None;
    }
    let lane = shared.lane(company_id)?;
    if let Ok(free) = Arc::clone(&lane).try_lock_owned() {
        return Some(free);
    }
    shared.world().counts.queued_reads += 1;
    Some(lane.lock_owned().await)
}

fn log_entry(
    at: DateTime<Utc>,
    path: &str,
    call: Option<Call>,
    company_id: Option<String>,
    body: &[u8],
) -> LogEntry {
    let kept = match Ordered::parse(body) {
        None => json!({"unreadable_bytes": body.len()}),
        Some(mut fields) => {
            fields.take("secret_key");
            fields.take("company_id");
            kept_body(Value::Object(fields.0.into_iter().collect()))
        }
    };
    LogEntry {
        seq: 0,
        at,
        company_id,
        path: path.chars().take(MAX_LOGGED_PATH).collect(),
        call,
        body: kept,
        fault: None,
        outcome: Outcome::Pending,
        status: None,
        refused: None,
        stored: false,
        stored_at: None,
        answered_at: None,
        mk_id: None,
    }
}

struct Asked<'a> {
    seq: u64,
    call: Call,
    company_id: Option<&'a str>,
    body: &'a [u8],
    from: IpAddr,
    now: DateTime<Utc>,
}

fn begin(world: &mut World, asked: Asked<'_>) -> Plan {
    let Asked {
        seq,
        call,
        company_id,
        body,
        from,
        now,
    } = asked;
    let Some(company) = company_id.and_then(|id| world.companies.get_mut(id)) else {
        return Plan::Now(Wire::whole(unknown_company(&world.readings, body)));
    };
    let request = match company.admit(call, body, Some(from), now) {
        Ok(request) => request,
        Err(refusal) => return Plan::Now(Wire::whole(refusal)),
    };
    let company_id = company.company_id().to_owned();
    let text = request.body().to_string();
    let fault = world.faults.pick(&company_id, &request, &text);
    if let Some(fault) = &fault {
        world.count_fault(fault.name());
        world
            .log
            .tell(seq, |entry| entry.fault = Some(fault.name()));
    }
    Doing {
        world,
        company_id,
        request,
        seq,
        now,
    }
    .with(fault, from)
}

fn unknown_company(readings: &Readings, body: &[u8]) -> Reply {
    match Ordered::parse(body) {
        None => Reply::refused(2, "Request is not a JSON object"),
        Some(mut fields) => {
            let key = fields.take("secret_key");
            wrong_credentials(
                readings,
                key.as_ref().and_then(Value::as_str).unwrap_or_default(),
            )
        }
    }
}

/// A call that was let in, about to be done or not.
struct Doing<'a> {
    world: &'a mut World,
    company_id: String,
    request: Admitted,
    seq: u64,
    now: DateTime<Utc>,
}

impl Doing<'_> {
    fn with(mut self, fault: Option<Fault>, from: IpAddr) -> Plan {
        let code1 = |code: u16| Reply::refused(code, UNKNOWN_ERROR);
        let wire = match fault {
            None => Wire::whole(self.commit()),
            Some(Fault::Error { status }) => Wire::whole(Reply::page(status)),
            Some(Fault::Code1) => {
                if self.company().readings().code_1_on_write == Code1OnWrite::Stored {
                    self.commit();
                }
                Wire::whole(code1(1))
            }
            Some(Fault::Code1Stored) => {
                self.commit();
                Wire::whole(code1(1))
            }
            Some(Fault::Code1NotStored) => Wire::whole(code1(1)),
            Some(Fault::Reset) => Wire::lost(code1(1), Manner::Reset),
            Some(Fault::Drop) => Wire::lost(code1(1), Manner::Drop),
            Some(Fault::CommitThenDrop) => Wire::lost(self.commit(), Manner::Drop),
            Some(Fault::CommitThenReset) => Wire::lost(self.commit(), Manner::Reset),
            Some(Fault::CutAnswer) => Wire::lost(self.commit(), Manner::Cut),
            Some(Fault::Garbled) => Wire::lost(self.commit(), Manner::Garbled),
            Some(Fault::GarbledNotStored) => Wire::lost(code1(1), Manner::Garbled),
            Some(Fault::Quota) => Wire::whole(quota_exceeded(self.company().readings())),
            Some(Fault::Auth { code: 4 }) => Wire::whole(ip_not_allowed(from)),
            Some(Fault::Auth { .. }) => {
                Wire::whole(wrong_credentials(self.company().readings(), HIDDEN_KEY))
            }
            Some(Fault::Maintenance) => Wire::whole(Reply::page(503)),
            Some(Fault::Refuse { code, text }) => Wire::whole(Reply::refused(code, &text)),
            Some(Fault::LyingRefusal { code, text }) => {
                self.commit();
                Wire::whole(Reply::refused(code, &text))
            }
            Some(Fault::CommitLate { after_ms, answer }) => match self.put_off(after_ms, false) {
                Err(full) => full,
                Ok(_) => match answer {
                    LateAnswer::Error => Wire::whole(Reply::page(504)),
                    LateAnswer::Code1 => Wire::whole(code1(1)),
                    LateAnswer::Drop => Wire::lost(code1(1), Manner::Drop),
                    LateAnswer::Reset => Wire::lost(code1(1), Manner::Reset),
                    LateAnswer::Nothing => Wire::lost(code1(1), Manner::Never),
                },
            },
            Some(Fault::Slow {
                ms,
                commit: CommitPoint::AtOnce,
            }) => {
                let reply = self.commit();
                return Plan::Then(self.now + delay(ms), Wire::whole(reply));
            }
            Some(Fault::Slow {
                ms,
                commit: CommitPoint::AtEnd,
            }) => match self.put_off(ms, true) {
                Err(full) => full,
                Ok((due, ticket)) => return Plan::Late(due, ticket),
            },
        };
        let company = self.company();
        Plan::Now(Wire {
            reply: company.dress(wire.reply),
            ..wire
        })
    }

    fn company(&mut self) -> &mut Company {
        self.world
            .companies
            .get_mut(&self.company_id)
            .expect("the company let the call in")
    }

    fn commit(&mut self) -> Reply {
        let (request, now) = (self.request.clone(), self.now);
        let reply = self.company().execute(&request, now);
        self.world
            .record_done(self.seq, request.call(), now, &reply);
        reply
    }

    fn put_off(&mut self, ms: u64, awaited: bool) -> Result<(DateTime<Utc>, Ticket), Wire> {
        let due = self.now + delay(ms);
        let (request, call) = (self.request.clone(), self.request.call());
        let ticket = self
            .company()
            .schedule(request, due)
            .map_err(|_full| Wire::whole(Reply::page(503)))?;
        self.world
            .remember_late(&self.company_id, ticket, self.seq, call, awaited);
        Ok((due, ticket))
    }
}
