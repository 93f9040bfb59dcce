//! Replays: chosen dead letters are sent to their own workers again, as their next generation, at a pace that grows while
//! they succeed. A replay is ordered here, run by any keeper ([`take_turn`]), and judged by what became of its dead letters.

mod control;
mod neighbours;
mod order;
mod pace;
mod plan;
mod progress;
mod prune;
mod standstill;
mod turn;

pub use control::{Resumed, cancel, pause, resume};
pub use neighbours::order_neighbours;
pub use order::{Order, Ordered, order};
pub use pace::{FIRST_RATE, HIGHEST_RATE, RATES, seconds_for};
pub use plan::{Plan, Share, plan};
pub use progress::{Counts, Failures, Progress, Replay, list, show};
pub use prune::{REPLAYS_KEPT, prune};
pub use standstill::stand_still;
pub use turn::{IN_FLIGHT, LEASE, LOST_AFTER, Moved, Turn, release, take_turn, waiting};
