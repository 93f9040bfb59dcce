//! Calls over HTTP: what is heard, the wait in a lane and for a time, what goes onto the wire.
//!
//! A call is done by a task of its own. It goes on when its caller gives up, as a real server would: that is what makes "given up,
//! and stored all the same" happen.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body as HttpBody, to_bytes};
use chrono::{DateTime, Utc};
use hyper::body::Incoming;
use hyper::{Request as HttpRequest, Response};
use tokio::sync::oneshot;

use crate::log::Outcome;
use crate::plan::{Answer, Request, Sending, Step};
use crate::shared::Shared;
use crate::simulated::Simulated;
use crate::socket::Ending;
use crate::wire::{NoAnswer, respond};
use crate::world::LateReply;

/// Longest body of a call, in bytes; a longer one gets HTTP 413.
const MAX_BODY: usize = 1024 * 1024;

/// Answers one request that isn't for the simulator itself.
pub(crate) async fn answer<S: Simulated>(
    shared: Arc<Shared<S>>,
    request: HttpRequest<Incoming>,
    from: IpAddr,
    ending: Ending,
) -> Result<Response<HttpBody>, NoAnswer> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(HttpBody::new(body), MAX_BODY).await else {
        return respond(Sending::Whole(Answer::page(413)), &ending);
    };
    let request = Request {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
        from,
    };
    let (send, receive) = oneshot::channel();
    let task = Arc::clone(&shared);
    shared.calls.spawn(async move {
        tokio::select! {
            () = do_and_tell(&task, &request, send) => {}
            () = task.stopped.cancelled() => {}
        }
    });
    match receive.await {
        Ok(sending) => respond(sending, &ending),
        Err(_) => Err(NoAnswer),
    }
}

async fn do_and_tell<S: Simulated>(
    shared: &Shared<S>,
    request: &Request,
    mut caller: oneshot::Sender<Sending>,
) {
    let (seq, sending) = handle(shared, request, &mut caller).await;
    if matches!(sending, Sending::Never) {
        caller.closed().await;
        caller_left(shared, seq);
        return;
    }
    // Told to the log before the caller: who has the answer finds it in the log.
    let now = shared.clock.now();
    shared
        .world()
        .log
        .tell(seq, |entry| entry.answered(&sending, now));
    if caller.send(sending).is_err() {
        caller_left(shared, seq);
    }
}

fn caller_left<S: Simulated>(shared: &Shared<S>, seq: u64) {
    shared
        .world()
        .log
        .tell(seq, |entry| entry.outcome = Outcome::CallerLeft);
}

/// Does one call; returns its place in the log and what the caller shall get.
async fn handle<S: Simulated>(
    shared: &Shared<S>,
    request: &Request,
    caller: &mut oneshot::Sender<Sending>,
) -> (u64, Sending) {
    let heard = S::hear(request);
    let lane = shared.world().system.lane(&heard);
    let _turn = match lane {
        Some(lane) => Some(shared.wait_in(lane).await),
        None => None,
    };
    let (seq, step) = {
        let mut world = shared.world();
        let now = shared.clock.now();
        world.begin(request, heard, now)
    };
    let sending = match step {
        Step::Now(sending) => sending,
        Step::At(due, sending) => {
            wait(shared, due, seq, caller).await;
            sending
        }
        Step::WhenDone(due, ticket) => loop {
            wait(shared, due, seq, caller).await;
            let late = shared.world().take_late(&ticket);
            match late {
                LateReply::Done(answer) => break Sending::Whole(answer),
                LateReply::Forgotten => break Sending::Whole(Answer::page(503)),
                // The real clock may run a hair behind the timer.
                LateReply::NotYet => tokio::task::yield_now().await,
            }
        },
    };
    (seq, sending)
}

/// Waits for a time, whether or not the caller does; the log shows at once that the caller left.
async fn wait<S: Simulated>(
    shared: &Shared<S>,
    due: DateTime<Utc>,
    seq: u64,
    caller: &mut oneshot::Sender<Sending>,
) {
    tokio::select! {
        () = shared.clock.sleep_until(due) => return,
        () = caller.closed() => {}
    }
    caller_left(shared, seq);
    shared.clock.sleep_until(due).await;
}
