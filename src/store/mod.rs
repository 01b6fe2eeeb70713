//! What is remembered of events so that each reaches the app once: claims as fenced leases, and the windows of events
//! that look the same each time.
//!
//! States of a key: absent → in flight (owner, lease) → done (until its window ends), or released and absent again.
//! An event is done only when the app has taken it; every other end, a dropped future and a panic included, releases.

mod keys;
mod memory;
mod shard;
mod windows;

pub use self::{
    memory::{Claim, Lease, Memory, Outcome, Waiter},
    windows::{OpenWindow, WINDOWS_MAX},
};
