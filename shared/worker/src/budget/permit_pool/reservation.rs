//! What holds on to a part of a permit pool while it is in use: an event that began, a call under way, a call that waits.

use std::sync::{Arc, Mutex, PoisonError};

use super::PermitPool;
use super::state::COST_WINDOW;

/// An event that began with permits reserved for it; gives back what it did not use.
#[derive(Debug)]
pub struct Admitted(pub(super) Arc<Reservation>);

#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) permit_pool: Arc<PermitPool>,
    pub(super) left: Mutex<u32>,
}

/// A call under way.
#[derive(Debug)]
pub struct CallPermit {
    pub(super) permit_pool: Arc<PermitPool>,
    pub(super) search: bool,
}

tokio::task_local! {
    pub(super) static RESERVATION: Arc<Reservation>;
}

/// Runs the handling of an admitted event: its calls use what was reserved for it.
pub async fn admitted<F: Future>(event: &Admitted, handling: F) -> F::Output {
    RESERVATION.scope(Arc::clone(&event.0), handling).await
}

impl Reservation {
    pub(super) fn has_left(&self) -> bool {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) > 0
    }

    pub(super) fn use_one(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(1);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let left = *self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.permit_pool.state();
        state.admitted = state.admitted.saturating_sub(1);
        state.reserved = state.reserved.saturating_sub(left);
        state.counted_events += 1.0;
        if state.counted_events >= COST_WINDOW {
            state.counted_events /= 2.0;
            state.counted_calls /= 2.0;
        }
        drop(state);
        self.permit_pool.moved();
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut state = self.permit_pool.state();
        state.calls = state.calls.saturating_sub(1);
        if self.search {
            state.searching = state.searching.saturating_sub(1);
        }
        drop(state);
        self.permit_pool.moved();
    }
}

/// Counts a waiting call while it waits.
pub(super) struct Waiting<'a> {
    permit_pool: &'a PermitPool,
    search: bool,
    counted: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(permit_pool: &'a PermitPool, search: bool) -> Self {
        Self {
            permit_pool,
            search,
            counted: false,
        }
    }

    pub(super) fn count(&mut self) {
        if !self.counted {
            self.counted = true;
            let mut state = self.permit_pool.state();
            state.waiting_calls += 1;
            state.waiting_searches += u32::from(self.search);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.counted {
            let mut state = self.permit_pool.state();
            state.waiting_calls -= 1;
            state.waiting_searches -= u32::from(self.search);
        }
    }
}
