//! A stand-in for a KurrentDB server: it speaks the published streams protocol over gRPC, as far as our adapter's client uses it, and keeps
//! everything in memory.
//!
//! It is no KurrentDB. It was written from the published protocol and from what is publicly known of the server's rules, so what it shows is that
//! the adapter does what those say, not that a real server does it too. There are no projections, persistent subscriptions, batch appends,
//! access lists, scavenging or elections.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]
#![expect(
    clippy::result_large_err,
    reason = "that is how the server's library has it"
)]

pub mod certificates;
pub mod log;
pub mod messages;
mod reading;
mod service;

use std::{
    collections::HashMap,
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{Notify, watch},
};
use tonic::{
    Status,
    metadata::MetadataMap,
    transport::{Identity, Server as GrpcServer, ServerTlsConfig, server::TcpIncoming},
};

use self::{
    log::{Log, NewRecord},
    service::{Features, Gossip, Streams},
};

/// The server's default for the bytes of one append.
pub const DEFAULT_MAX_APPEND_SIZE: usize = 1024 * 1024;

/// A running server, stopped when it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    identity: Option<Identity>,
    runtime: Mutex<Option<Runtime>>,
}

/// What the calls share. It outlives a stop, as a disk would.
struct Shared {
    log: Mutex<Log>,
    changed: watch::Sender<()>,
    login: Option<String>,
    port: AtomicU16,
    max_append_size: AtomicUsize,
    /// Milliseconds before a call is begun.
    delay: AtomicU64,
    lose_answers: AtomicUsize,
    cut_reads: AtomicUsize,
    /// How many events a filter passes over in good time, 0 for any number.
    slow_search: AtomicUsize,
    /// The leader's port, 0 if this is the leader.
    leader: AtomicU16,
    before_append: Mutex<Option<Change>>,
    no_positions: AtomicBool,
    drop_subscriptions: Notify,
    calls: Mutex<HashMap<&'static str, usize>>,
}

/// What is done to the server's data at a moment that a test chose.
type Change = Box<dyn FnOnce(&mut Log) + Send>;

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server without TLS that asks for no login and takes 16 MiB in one append.
    pub fn new() -> Self {
        Self::start(None, None)
    }

    /// A server that asks for `user` and `password`.
    pub fn with_login(user: &str, password: &str) -> Self {
        Self::start(Some((user, password)), None)
    }

    /// A server with TLS whose certificate and key are those of that name in `folder`.
    pub fn with_tls(folder: &Path, name: &str) -> Self {
        let read = |kind: &str| std::fs::read(folder.join(format!("{name}.{kind}"))).unwrap();
        Self::start(None, Some(Identity::from_pem(read("pem"), read("key"))))
    }

    fn start(login: Option<(&str, &str)>, identity: Option<Identity>) -> Self {
        let server = Self {
            shared: Arc::new(Shared {
                log: Mutex::default(),
                changed: watch::Sender::new(()),
                login: login.map(|(user, password)| format!("{user}:{password}")),
                port: AtomicU16::new(0),
                max_append_size: AtomicUsize::new(16 * 1024 * 1024),
                delay: AtomicU64::new(0),
                lose_answers: AtomicUsize::new(0),
                cut_reads: AtomicUsize::new(0),
                slow_search: AtomicUsize::new(0),
                leader: AtomicU16::new(0),
                before_append: Mutex::default(),
                no_positions: AtomicBool::new(false),
                drop_subscriptions: Notify::new(),
                calls: Mutex::default(),
            }),
            identity,
            runtime: Mutex::new(None),
        };
        server.resume();
        server
    }

    /// Where it is: `127.0.0.1:port`.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.shared.port())
    }

    /// Its URL, without a login.
    pub fn url(&self) -> String {
        let tls = self.identity.is_some();
        format!("kurrentdb://{}?tls={tls}", self.place())
    }

    /// Stops answering: every connection ends at once, what was stored stays.
    pub fn stop(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Starts again on the same port.
    pub fn resume(&self) {
        let port = self.shared.port();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kurrentdb-stand-in")
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _here = runtime.enter();
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let listener = StdListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
            TcpListener::from_std(listener).unwrap()
        };
        let port = listener.local_addr().unwrap().port();
        self.shared.port.store(port, Ordering::Release);
        let mut server = GrpcServer::builder();
        if let Some(identity) = &self.identity {
            let tls = ServerTlsConfig::new().identity(identity.clone());
            server = server.tls_config(tls).unwrap();
        }
        let server = server
            .add_service(Streams(Arc::clone(&self.shared)))
            .add_service(Gossip(Arc::clone(&self.shared)))
            .add_service(Features(Arc::clone(&self.shared)));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        runtime.spawn(server.serve_with_incoming(incoming));
        *self.runtime.lock().unwrap() = Some(runtime);
    }

    /// Ends every subscription with an error.
    pub fn drop_subscriptions(&self) {
        self.shared.drop_subscriptions.notify_waiters();
    }

    /// Begins each call so much later.
    pub fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap();
        self.shared.delay.store(millis, Ordering::Release);
    }

    /// The next `count` appends are done, and their answers lost.
    pub fn lose_answers(&self, count: usize) {
        self.shared.lose_answers.store(count, Ordering::Release);
    }

    /// The next `count` reads of streams end after an event at most, as those of a server that shuts down.
    pub fn cut_reads(&self, count: usize) {
        self.shared.cut_reads.store(count, Ordering::Release);
    }

    /// A filter that passes over more than so many events in a row does not come to an end.
    pub fn slow_search(&self, events: usize) {
        self.shared.slow_search.store(events, Ordering::Release);
    }

    /// Sends who needs the leader to `leader` from now on.
    pub fn follow(&self, leader: &Self) {
        let port = leader.shared.port();
        self.shared.leader.store(port, Ordering::Release);
    }

    /// Does `change` just before the next append is judged.
    pub fn before_next_append(&self, change: impl FnOnce(&mut Log) + Send + 'static) {
        let mut before = self.shared.before_append.lock().unwrap();
        *before = Some(Box::new(change));
    }

    /// The bytes that one append may have.
    pub fn set_max_append_size(&self, bytes: usize) {
        self.shared.max_append_size.store(bytes, Ordering::Release);
    }

    /// Tells no positions when a stream is read, as servers before 22.6 do.
    pub fn tell_no_positions(&self) {
        self.shared.no_positions.store(true, Ordering::Release);
    }

    /// What a broken disk would do to the events of streams whose names begin so.
    pub fn damage(&self, prefix: &str) {
        self.shared.log.lock().unwrap().damage(prefix);
    }

    /// An event that somebody else appended.
    pub fn foreign(&self, stream: &str, event: NewRecord) {
        self.shared.write(|log| log.foreign(stream, event));
    }

    /// A soft deletion by somebody else.
    pub fn delete_by_hand(&self, stream: &str) {
        let any = messages::Expected::Any(messages::Empty {});
        self.shared.write(|log| log.delete(stream, any)).unwrap();
    }

    /// An append past the adapter.
    ///
    /// # Errors
    /// As the server's rules have it.
    pub fn append_by_hand(
        &self,
        stream: &str,
        expected: messages::Expected,
        events: Vec<NewRecord>,
    ) -> Result<(), log::Refused> {
        self.shared
            .write(|log| log.append(stream, expected, events))
            .map(drop)
    }

    /// A transaction of a client that spoke TCP.
    pub fn transaction(&self, stream: &str, events: Vec<NewRecord>) {
        self.shared.write(|log| log.transaction(stream, events));
    }

    /// How often the call of that name has come.
    pub fn calls(&self, name: &str) -> usize {
        let calls = self.shared.calls.lock().unwrap();
        calls.get(name).copied().unwrap_or(0)
    }

    /// The server's data.
    pub fn log<T>(&self, see: impl FnOnce(&Log) -> T) -> T {
        self.shared.read(see)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.url())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn port(&self) -> u16 {
        self.port.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    fn read<T>(&self, see: impl FnOnce(&Log) -> T) -> T {
        see(&self.lock())
    }

    fn write<T>(&self, change: impl FnOnce(&mut Log) -> T) -> T {
        let done = change(&mut self.lock());
        self.changed.send_replace(());
        done
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    async fn subscriptions_dropped(&self) {
        self.drop_subscriptions.notified().await;
    }

    fn max_append_size(&self) -> usize {
        self.max_append_size.load(Ordering::Acquire)
    }

    fn tells_positions(&self) -> bool {
        !self.no_positions.load(Ordering::Acquire)
    }

    fn count_call(&self, name: &'static str) {
        *self.calls.lock().unwrap().entry(name).or_default() += 1;
    }

    /// Lets a call begin.
    async fn admit(&self, metadata: MetadataMap, name: &'static str) -> Result<(), Status> {
        self.count_call(name);
        let allowed = self
            .may_enter(&metadata)
            .and_then(|()| self.may_answer(&metadata));
        let delay = self.delay.load(Ordering::Acquire);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        allowed
    }

    fn may_enter(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(login) = &self.login else {
            return Ok(());
        };
        let given = metadata.get("authorization").and_then(|v| v.to_str().ok());
        let given = given
            .and_then(|v| v.strip_prefix("Basic "))
            .and_then(from_base64);
        if given.as_deref() == Some(login.as_bytes()) {
            Ok(())
        } else {
            Err(Status::unauthenticated("Unauthenticated"))
        }
    }

    /// Refuses what is for the leader, if that is another node.
    fn may_answer(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let asks = metadata.get("requires-leader").is_some_and(|v| v == "true");
        match self.leader.load(Ordering::Acquire) {
            leader if leader > 0 && asks => Err(not_leader(leader)),
            _ => Ok(()),
        }
    }

    #[expect(clippy::unused_self, reason = "a server's right")]
    fn may_read(&self, stream: &str) -> Result<(), Status> {
        if stream.starts_with("secret-") {
            return Err(Status::permission_denied("Access Denied"));
        }
        Ok(())
    }

    fn may_write(&self, stream: &str) -> Result<(), Status> {
        self.may_read(stream)
    }

    fn append(
        &self,
        stream: &str,
        expected: messages::Expected,
        events: Vec<NewRecord>,
    ) -> Result<(Option<u64>, u64), log::Refused> {
        let before = self.before_append.lock().unwrap().take();
        self.write(|log| {
            if let Some(before) = before {
                before(log);
            }
            log.append(stream, expected, events)
        })
    }

    /// Fails after the append was done, if that is wanted.
    fn after_append(&self) -> Result<(), Status> {
        if take(&self.lose_answers) {
            return Err(Status::unavailable("the answer was lost"));
        }
        Ok(())
    }

    fn is_cut(&self) -> bool {
        take(&self.cut_reads)
    }

    /// Whether a filter that has passed over so many events in a row comes to an end.
    fn finds(&self, passed_over: usize) -> bool {
        let most = self.slow_search.load(Ordering::Acquire);
        most == 0 || passed_over <= most
    }
}

/// Whether one of `left` is used up.
fn take(left: &AtomicUsize) -> bool {
    let one_less = |n: usize| n.checked_sub(1);
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
        .is_ok()
}

/// Where the leader is.
fn not_leader(port: u16) -> Status {
    let mut status = Status::not_found("Leader info available");
    let metadata = status.metadata_mut();
    for (name, value) in [
        ("exception", "not-leader".to_owned()),
        ("leader-endpoint-host", Ipv4Addr::LOCALHOST.to_string()),
        ("leader-endpoint-port", port.to_string()),
    ] {
        metadata.insert(name, value.parse().unwrap());
    }
    status
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut value) = (Vec::new(), 0, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = DIGITS.iter().position(|d| *d == byte)?;
        value = (value << 6) | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((value >> bits) & 255).ok()?);
        }
    }
    Some(bytes)
}
