//! Reading the clock, and the sizes that both sides of a row share.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::Figure;

/// How many appenders are at work at once; also the rows of the bare loop's transactions.
pub(crate) const APPENDERS: usize = 100;

/// How many events an append measurement stores.
pub(crate) const APPENDS: usize = 100_000;

/// The same on PostgreSQL, the first tenth untimed.
pub(crate) const POSTGRES_APPENDS: usize = 80_000;

/// How many events the log of a read measurement has, and over how many streams.
pub(crate) const LOG: (usize, u32) = (500_000, 1_000);

/// Runs `work` and returns how many per second it did of `count` things, with its result.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures the real time"
)]
pub(crate) fn per_second<T>(count: usize, work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts stay far below 2 to the 52nd"
    )]
    let count = count as f64;
    (count / start.elapsed().as_secs_f64(), result)
}

/// Runs `work` `repeats` times and returns its median count per second.
///
/// # Errors
/// The first error of `work`.
pub(crate) fn median_per_second<E>(
    repeats: usize,
    count: usize,
    mut work: impl FnMut() -> Result<(), E>,
) -> Result<f64, E> {
    let mut rates = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let (rate, result) = per_second(count, &mut work);
        result?;
        rates.push(rate);
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[repeats / 2])
}

/// The median in microseconds, with the 99th percentile beside it.
///
/// # Errors
/// If nothing was timed.
pub(crate) fn quantiles(mut taken: Vec<f64>) -> Result<Figure, Box<dyn Error>> {
    taken.sort_by(f64::total_cmp);
    let at = |part: usize| taken.get(taken.len() * part / 100).copied();
    let (median, p99) = (
        at(50).ok_or("nothing was timed")?,
        at(99).ok_or("nothing was timed")?,
    );
    Ok(Figure::microseconds(median).beside("p99", p99))
}

/// A file in the empty folder that this process runs in.
pub(crate) fn work_file(name: &str) -> PathBuf {
    Path::new(name).to_path_buf()
}

/// A running measurement of time.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures the real time"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn microseconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64() * 1e6
    }

    /// How many per second, if `count` were done since the start.
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts stay far below 2 to the 52nd"
        )]
        let count = count as f64;
        count / self.0.elapsed().as_secs_f64()
    }
}
