//! Time and ids: the only file that reads the clock or makes an id.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Condvar, Mutex};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// A moment: microseconds since 1970-01-01T00:00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, 0 for a time before it.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0 / 1000).unwrap_or(0)
    }

    /// This moment plus `duration`, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// Parses RFC 3339 text with any offset; what is finer than a microsecond is cut off.
    ///
    /// Returns `None` when the text is no such time.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(moment.unix_timestamp_nanos().div_euclid(1000))
            .ok()
            .map(Self)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with six digits of a second: `2026-03-27T12:00:00.000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000_000);
        let micros = self.0.rem_euclid(1_000_000);
        match OffsetDateTime::from_unix_timestamp(seconds) {
            Ok(t) => write!(
                f,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{micros:06}Z",
                t.year(),
                u8::from(t.month()),
                t.day(),
                t.hour(),
                t.minute(),
                t.second(),
            ),
            Err(_) => write!(f, "{seconds}.{micros:06}s"),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A future that ends when its clock says so. It needs no runtime: any executor may poll it.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time of day, UTC.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Ends after `duration`. Dropping the future forgets the sleep.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The machine's own clock.
pub struct SystemClock {
    origin: Instant,
    timers: Arc<Timers>,
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            origin: Instant::now(),
            timers: Arc::default(),
        }
    }
}

impl Drop for SystemClock {
    fn drop(&mut self) {
        self.timers.queue.lock().closed = true;
        self.timers.changed.notify_all();
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let now = SystemTime::now();
        let micros = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_micros());
        Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let at = self.monotonic().saturating_add(duration);
        let origin = self.origin;
        let timers = Arc::clone(&self.timers);
        Box::pin(Alarm {
            at,
            shared: Arc::new(AlarmState::default()),
            register: Some(Box::new(move |entry| Timers::add(&timers, origin, entry))),
        })
    }
}

/// One thread, started with the first sleep, that wakes what is due.
#[derive(Default)]
struct Timers {
    queue: Mutex<TimerQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct TimerQueue {
    heap: BinaryHeap<Reverse<Entry>>,
    /// The length at which forgotten entries are swept out.
    sweep_at: usize,
    running: bool,
    closed: bool,
}

impl TimerQueue {
    /// Adds an entry. Most sleeps are time limits that are dropped long before they end: those must not pile up until then.
    fn push(&mut self, entry: Entry) {
        if self.heap.len() >= self.sweep_at {
            self.heap.retain(|Reverse(entry)| entry.is_awaited());
            self.sweep_at = (self.heap.len() * 2).max(MIN_SWEEP);
        }
        self.heap.push(Reverse(entry));
    }
}

/// As many entries are kept without a look at whether anybody waits for them.
const MIN_SWEEP: usize = 256;

struct Entry {
    at: Duration,
    serial: u64,
    alarm: Arc<AlarmState>,
}

impl Entry {
    /// Whether its future is still there.
    fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.alarm) > 1
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Timers {
    fn add(this: &Arc<Self>, origin: Instant, entry: Entry) {
        let mut queue = this.queue.lock();
        queue.push(entry);
        if !queue.running {
            queue.running = true;
            let timers = Arc::clone(this);
            let spawned = thread::Builder::new()
                .name("orkestra-timers".into())
                .spawn(move || timers.run(origin));
            if spawned.is_err() {
                queue.running = false;
            }
        }
        drop(queue);
        this.changed.notify_one();
    }

    fn run(&self, origin: Instant) {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return;
            }
            let now = origin.elapsed();
            match queue.heap.peek() {
                None => self.changed.wait(&mut queue),
                Some(Reverse(entry)) if entry.at > now => {
                    let wait = entry.at.saturating_sub(now);
                    self.changed.wait_for(&mut queue, wait);
                }
                Some(_) => {
                    if let Some(Reverse(entry)) = queue.heap.pop() {
                        // A waker may run foreign code: never under our lock.
                        parking_lot::MutexGuard::unlocked(&mut queue, || entry.alarm.ring());
                    }
                }
            }
        }
    }
}

#[derive(Default)]
struct AlarmState {
    inner: Mutex<(bool, Option<Waker>)>,
}

impl AlarmState {
    fn ring(&self) {
        let waker = {
            let mut inner = self.inner.lock();
            inner.0 = true;
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

type Register = Box<dyn FnOnce(Entry) + Send>;

struct Alarm {
    at: Duration,
    shared: Arc<AlarmState>,
    register: Option<Register>,
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut inner = self.shared.inner.lock();
            if inner.0 {
                return Poll::Ready(());
            }
            inner.1 = Some(cx.waker().clone());
        }
        let entry = Entry {
            at: self.at,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            alarm: Arc::clone(&self.shared),
        };
        if let Some(register) = self.register.take() {
            register(entry);
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    /// The timer may stay for a while; what would have been woken need not.
    fn drop(&mut self) {
        let waker = self.shared.inner.lock().1.take();
        // After the lock is let go: it may run foreign code.
        drop(waker);
    }
}

/// A clock that stands still until it is told to move: for tests.
#[derive(Clone, Default)]
pub struct ManualClock {
    inner: Arc<Mutex<ManualState>>,
}

#[derive(Default)]
struct ManualState {
    elapsed: Duration,
    start: Timestamp,
    sleepers: BinaryHeap<Reverse<Entry>>,
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManualClock({})", self.now())
    }
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        let clock = Self::default();
        clock.inner.lock().start = start;
        clock
    }

    /// Moves the time on by `duration` and wakes every sleep that is due, earliest first.
    pub fn advance(&self, duration: Duration) {
        let due = {
            let mut state = self.inner.lock();
            state.elapsed += duration;
            let mut due = Vec::new();
            while let Some(Reverse(entry)) = state.sleepers.peek() {
                if entry.at > state.elapsed {
                    break;
                }
                if let Some(Reverse(entry)) = state.sleepers.pop() {
                    due.push(entry.alarm);
                }
            }
            due
        };
        for alarm in due {
            alarm.ring();
        }
    }

    /// Puts the time of day back, as somebody does who sets a clock right. Sleeps and the monotonic time do not notice.
    pub fn put_back(&self, duration: Duration) {
        let mut state = self.inner.lock();
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        state.start = Timestamp(state.start.0.saturating_sub(micros));
    }

    /// How many sleeps are waiting: what a test waits for before it advances.
    pub fn sleepers(&self) -> usize {
        let state = self.inner.lock();
        let waiting = |e: &&Reverse<Entry>| Arc::strong_count(&e.0.alarm) > 1;
        state.sleepers.iter().filter(waiting).count()
    }

    /// How long until the earliest sleep ends, `None` when nothing sleeps: what a test waits for before it advances.
    pub fn next_wake(&self) -> Option<Duration> {
        let state = self.inner.lock();
        state
            .sleepers
            .iter()
            .filter(|Reverse(e)| e.is_awaited())
            .map(|Reverse(e)| e.at.saturating_sub(state.elapsed))
            .min()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let state = self.inner.lock();
        state.start.plus(state.elapsed)
    }

    fn monotonic(&self) -> Duration {
        self.inner.lock().elapsed
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let at = self.monotonic().saturating_add(duration);
        let inner = Arc::clone(&self.inner);
        Box::pin(Alarm {
            at,
            shared: Arc::default(),
            register: Some(Box::new(move |entry| {
                let mut state = inner.lock();
                if entry.at <= state.elapsed {
                    drop(state);
                    entry.alarm.ring();
                } else {
                    state.sleepers.push(Reverse(entry));
                }
            })),
        })
    }
}

/// Where ids and random draws come from.
pub trait IdSource: Send + Sync + fmt::Debug {
    /// A new id for something that happens at `now`: a version 7 UUID (RFC 9562 §5.7).
    fn next_id(&self, now: Timestamp) -> Uuid;
    /// A draw from [0, 1), for jitter.
    fn draw(&self) -> f64;
}

/// How often this process was forked; a child must not go on with its parent's random state.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Tells the id sources that this process is a fresh child of a fork. Bindings call it from their fork hook.
pub fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How often [`after_fork_in_child`] was called in this process and its ancestors.
pub fn fork_count() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Ids from the operating system's randomness, increasing within this source.
#[derive(Default)]
pub struct SystemIds {
    state: Mutex<Option<RandomState>>,
}

impl fmt::Debug for SystemIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemIds")
    }
}

struct RandomState {
    forks: u64,
    seed: [u64; 2],
    millis: u64,
    counter: u16,
}

impl RandomState {
    fn new() -> Self {
        let mut bytes = [0_u8; 16];
        if getrandom::fill(&mut bytes).is_err() {
            // Without the kernel's randomness an address and the time still tell processes apart.
            #[expect(clippy::disallowed_methods, reason = "this is the id source")]
            let nanos = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| d.as_nanos());
            bytes = (nanos ^ u128::from(std::process::id()) << 64).to_ne_bytes();
        }
        let number = u128::from_ne_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let seed = [(number >> 64) as u64 | 1, number as u64];
        Self {
            forks: fork_count(),
            seed,
            millis: 0,
            counter: 0,
        }
    }

    /// xorshift128+: fast, and unique is all that an id's random bits need to be.
    fn next_u64(&mut self) -> u64 {
        let [mut x, y] = self.seed;
        x ^= x << 23;
        let z = x ^ y ^ (x >> 17) ^ (y >> 26);
        self.seed = [y, z];
        z.wrapping_add(y)
    }
}

impl SystemIds {
    fn with<R>(&self, f: impl FnOnce(&mut RandomState) -> R) -> R {
        let mut guard = self.state.lock();
        let state = match guard.as_mut() {
            Some(state) if state.forks == fork_count() => state,
            _ => guard.insert(RandomState::new()),
        };
        f(state)
    }
}

impl IdSource for SystemIds {
    fn next_id(&self, now: Timestamp) -> Uuid {
        self.with(|state| {
            let millis = now.as_millis();
            if millis > state.millis {
                state.millis = millis;
                // The upper half stays free for counting within the millisecond.
                let start = (state.next_u64() & 0x7ff) as u16;
                state.counter = start;
            } else {
                state.counter += 1;
                if state.counter > 0xfff {
                    // RFC 9562 §6.2, method 1: the counter overflows into the time.
                    state.counter = 0;
                    state.millis += 1;
                }
            }
            let random = u128::from(state.next_u64()) & 0x3fff_ffff_ffff_ffff;
            Uuid::from_u128(
                u128::from(state.millis & 0xffff_ffff_ffff) << 80
                    | 0x7 << 76
                    | u128::from(state.counter) << 64
                    | 0x2 << 62
                    | random,
            )
        })
    }

    fn draw(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let draw = (self.with(RandomState::next_u64) >> 11) as f64 / (1_u64 << 53) as f64;
        draw
    }
}

/// Ids that count 1, 2, 3, … at the given time, and draws that are all the same: for tests.
#[derive(Debug)]
pub struct ManualIds {
    next: AtomicU64,
    draw: f64,
}

impl Default for ManualIds {
    fn default() -> Self {
        Self::with_draw(0.5)
    }
}

impl ManualIds {
    /// Every draw is `draw`, which lies in [0, 1).
    pub fn with_draw(draw: f64) -> Self {
        Self {
            next: AtomicU64::new(1),
            draw,
        }
    }
}

impl IdSource for ManualIds {
    fn next_id(&self, now: Timestamp) -> Uuid {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        Uuid::from_u128(
            u128::from(now.as_millis() & 0xffff_ffff_ffff) << 80
                | 0x7 << 76
                | 0x2 << 62
                | u128::from(count),
        )
    }

    fn draw(&self) -> f64 {
        self.draw
    }
}

/// The id of the `index`-th event (0-based) made while handling the command `command_id`.
///
/// A version 7 UUID with the command id's first 48 bits and, for the rest, SHA-256 over the text `orkestra:event`, the 16 bytes of
/// the command id and the index as 4 bytes, big end first. A command handled twice so gives the same ids. Source: DESIGN.md section 4.
pub fn derive_event_id(command_id: Uuid, index: u32) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"orkestra:event");
    hash.update(command_id.as_bytes());
    hash.update(index.to_be_bytes());
    let digest = hash.finalize();
    let mut bytes = *command_id.as_bytes();
    bytes[6..].copy_from_slice(&digest[..10]);
    bytes[6] = 0x70 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_six_digits_and_read_with_any_offset() {
        let time = Timestamp::parse("2026-03-27T14:00:00.5+02:00").unwrap();

        assert_eq!(time.to_string(), "2026-03-27T12:00:00.500000Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn ids_increase_even_when_the_clock_stands_still_or_goes_back() {
        let ids = SystemIds::default();
        let mut last = Uuid::nil();

        for n in 0..10_000_i64 {
            let id = ids.next_id(Timestamp::from_micros(1_700_000_000_000_000 - n));
            assert!(id > last, "{id} after {last}");
            assert_eq!(id.get_version_num(), 7);
            last = id;
        }
    }

    /// In a process of its own, as every other test would be a child of a fork, too.
    #[test]
    fn a_forked_child_makes_other_ids() {
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "clock::tests::a_forked_child_makes_other_ids_alone",
            ])
            .args(["--ignored", "--quiet"])
            .output()
            .unwrap();

        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by the test above"]
    fn a_forked_child_makes_other_ids_alone() {
        let ids = SystemIds::default();
        let now = Timestamp::from_micros(1);
        ids.next_id(now);
        let before = ids.with(|s| s.seed);

        after_fork_in_child();

        ids.next_id(now);
        assert_ne!(ids.with(|s| s.seed), before);
    }

    #[test]
    fn event_ids_of_a_command_are_repeatable_and_close_in_time() {
        let command = Uuid::parse_str("019506b8-9d2a-7c3e-8f00-0123456789ab").unwrap();

        let first = derive_event_id(command, 0);

        assert_eq!(first, derive_event_id(command, 0));
        assert_ne!(first, derive_event_id(command, 1));
        assert_eq!(first.as_bytes()[..6], command.as_bytes()[..6]);
        assert_eq!(first.get_version_num(), 7);
    }

    #[test]
    fn sleeps_that_are_given_up_leave_nothing_behind() {
        struct Task;
        impl std::task::Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        let clock = SystemClock::default();
        let task = Arc::new(Task);
        let waker = Arc::clone(&task).into();
        for _ in 0..10 * MIN_SWEEP {
            let mut limit = clock.sleep(Duration::from_secs(3600));
            assert!(
                limit
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        drop(waker);

        assert!(clock.timers.queue.lock().heap.len() <= MIN_SWEEP);
        assert_eq!(Arc::strong_count(&task), 1);
    }

    #[test]
    fn a_manual_sleep_ends_when_the_clock_is_advanced_past_it() {
        let clock = ManualClock::default();
        let mut sleep = clock.sleep(Duration::from_secs(5));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.next_wake(), Some(Duration::from_secs(5)));

        clock.advance(Duration::from_secs(4));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        clock.advance(Duration::from_secs(1));

        assert!(sleep.as_mut().poll(&mut cx).is_ready());
    }
}
