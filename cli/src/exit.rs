//! Exit codes of the command.
//!
//! | code | means |
//! |---|---|
//! | 0 | done; a worker: stopped by a signal, and what was in hand is finished |
//! | 1 | failed, stderr says why: no such app, the broker is away |
//! | 2 | wrong arguments |
//! | 3 | a worker's process ended soon after its start too often in a row |
//! | 128 + n | stopped by a second signal n, without finishing: 130 for SIGINT, 143 for SIGTERM |

/// Everything was done.
pub const DONE: i32 = 0;
/// The command failed; stderr says why.
pub const FAILED: i32 = 1;
/// The arguments are wrong.
pub const USAGE: i32 = 2;
/// A worker's process ended soon after its start too often in a row.
pub const GAVE_UP: i32 = 3;

/// Stopped by `signal` before everything was finished: 128 plus its number, as shells have it.
pub const fn stopped_by(signal: i32) -> i32 {
    128 + signal
}
