//! The gate a request body leaves through: at most once and never after its instant. hyper writes nothing to the
//! socket before it has polled the body's first frame, so an unopened gate proves that no whole request left, even
//! for a process that was frozen between its last look at the clock and the socket.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

const WAITING: u8 = 0;
const LEFT: u8 = 1;
const CLOSED: u8 = 2;

/// Clones are the same gate.
#[derive(Clone)]
pub(crate) struct Gate {
    state: Arc<AtomicU8>,
    leave_by: Instant,
}

impl Gate {
    pub(crate) fn until(leave_by: Instant) -> Self {
        Self {
            state: Arc::new(AtomicU8::new(WAITING)),
            leave_by,
        }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.state.load(Ordering::SeqCst) == LEFT
    }

    /// Shuts the gate unless the body has left. True: it has not and never will.
    pub(crate) fn close(&self) -> bool {
        self.turn(CLOSED) == CLOSED
    }

    pub(crate) fn body(&self, bytes: Bytes) -> GatedBody {
        GatedBody {
            bytes: (!bytes.is_empty()).then_some(bytes),
            gate: self.clone(),
        }
    }

    /// The first turn decides for good; returns the state that holds.
    fn turn(&self, to: u8) -> u8 {
        match self
            .state
            .compare_exchange(WAITING, to, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) => to,
            Err(held) => held,
        }
    }
}

/// A request body of known length that asks the gate.
pub(crate) struct GatedBody {
    bytes: Option<Bytes>,
    gate: Gate,
}

#[derive(Debug)]
pub(crate) struct Shut;

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the send window has passed")
    }
}

impl std::error::Error for Shut {}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = Shut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Shut>>> {
        let Some(bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        let wanted = if Instant::now() < self.gate.leave_by {
            LEFT
        } else {
            CLOSED
        };
        Poll::Ready(Some(match self.gate.turn(wanted) {
            LEFT => Ok(Frame::data(bytes)),
            _ => Err(Shut),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn poll(body: &mut GatedBody) -> Option<Result<(), ()>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(frame) => frame.map(|frame| frame.map(drop).map_err(drop)),
            Poll::Pending => panic!("a gated body is never pending"),
        }
    }

    #[test]
    fn a_body_leaves_before_its_instant_and_not_after() {
        let open = Gate::until(Instant::now() + Duration::from_secs(60));
        let mut body = open.body(Bytes::from_static(b"x"));
        assert_eq!(poll(&mut body), Some(Ok(())));
        assert!(open.has_left());
        assert!(!open.close(), "what has left can't be called back");

        let past = Gate::until(Instant::now());
        let mut body = past.body(Bytes::from_static(b"x"));
        assert_eq!(poll(&mut body), Some(Err(())));
        assert!(!past.has_left());
    }

    #[test]
    fn a_closed_gate_stays_closed() {
        let gate = Gate::until(Instant::now() + Duration::from_secs(60));
        let mut body = gate.body(Bytes::from_static(b"x"));
        assert!(gate.close());
        assert_eq!(poll(&mut body), Some(Err(())));
        assert!(!gate.has_left());
    }
}
