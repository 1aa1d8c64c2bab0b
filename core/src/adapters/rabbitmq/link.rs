//! A connection that comes back: made when it is first needed, and again when it was lost.

#[cfg(unix)]
use std::os::fd::AsFd;
use std::{
    collections::HashSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    tcp::AsyncTcpStream,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{
    RabbitmqConfig,
    error::{bus_error, login_error, unavailable},
    tls,
};
use crate::ports::BusError;

/// One of the bus's two connections.
pub(super) struct Link {
    config: Arc<RabbitmqConfig>,
    /// What the broker shows as the connection's name.
    name: String,
    /// Held while connecting, so that one task connects for all.
    connecting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    closed: AtomicBool,
}

/// A connection with what is known to be there at its broker.
pub(super) struct Live {
    connection: Connection,
    /// Set when what all share has been declared.
    pub(super) prepared: tokio::sync::Mutex<bool>,
    /// The delays, in milliseconds, whose queues have been declared.
    pub(super) rungs: Mutex<HashSet<u64>>,
}

impl Live {
    fn is_alive(&self) -> bool {
        self.connection.status().connected()
    }

    pub(super) async fn channel(&self) -> Result<Channel, BusError> {
        self.connection
            .create_channel()
            .await
            .map_err(|error| bus_error(&error))
    }
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Live>>,
    blocked: Option<String>,
    error: Option<BusError>,
    /// Attempts so far: who waited for one that failed need not try again.
    attempts: u64,
    /// Whether there has ever been a connection.
    ever: bool,
    lost_at: Option<Instant>,
}

impl Link {
    pub(super) fn new(config: Arc<RabbitmqConfig>, name: String) -> Self {
        Self {
            config,
            name,
            connecting: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Whether there has ever been a connection.
    pub(super) fn ever_connected(&self) -> bool {
        self.state.lock().ever
    }

    /// Whether there is one now, why it takes no messages, and the last error while there is none.
    pub(super) fn health(&self) -> (bool, Option<String>, Option<BusError>) {
        let state = self.state.lock();
        let connected = state.connection.as_ref().is_some_and(|c| c.is_alive());
        let error = if connected { None } else { state.error.clone() };
        let blocked = state.blocked.clone().filter(|_| connected);
        (connected, blocked, error)
    }

    fn alive(&self) -> Option<Arc<Live>> {
        let state = self.state.lock();
        state.connection.clone().filter(|c| c.is_alive())
    }

    /// The connection, made if there is none. One attempt; who waits for somebody else's gets its outcome.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Live>, BusError> {
        let attempts = self.state.lock().attempts;
        if let Some(connection) = self.alive() {
            return Ok(connection);
        }
        let _turn = self.connecting.lock().await;
        if let Some(connection) = self.alive() {
            return Ok(connection);
        }
        {
            let state = self.state.lock();
            if state.attempts != attempts
                && let Some(error) = &state.error
            {
                return Err(error.clone());
            }
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(BusError::Closed {});
        }
        let made = connect(&self.config, &self.name).await;
        let mut state = self.state.lock();
        state.attempts += 1;
        state.blocked = None;
        match made {
            Ok(connection) => {
                let connection = Arc::new(Live {
                    connection,
                    prepared: tokio::sync::Mutex::default(),
                    rungs: Mutex::default(),
                });
                state.connection = Some(Arc::clone(&connection));
                state.ever = true;
                state.error = None;
                state.lost_at = None;
                drop(state);
                self.watch(&connection);
                Ok(connection)
            }
            Err(error) => {
                state.connection = None;
                state.error = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Takes note of what the broker says of the connection.
    fn watch(self: &Arc<Self>, connection: &Arc<Live>) {
        let mut events = Box::pin(connection.connection.events_listener());
        let connection = Arc::downgrade(connection);
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let (Some(this), Some(of)) = (this.upgrade(), connection.upgrade()) else {
                    return;
                };
                let mut state = this.state.lock();
                if !state
                    .connection
                    .as_ref()
                    .is_some_and(|c| Arc::ptr_eq(c, &of))
                {
                    return;
                }
                match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(
                            reason,
                            connection = this.name,
                            "the broker takes no messages"
                        );
                        state.blocked = Some(reason);
                    }
                    Event::ConnectionUnblocked => {
                        tracing::info!(connection = this.name, "the broker takes messages again");
                        state.blocked = None;
                    }
                    Event::Error(error) => {
                        state.error = Some(bus_error(&error));
                        return;
                    }
                    _ => {}
                }
            }
        });
    }

    /// How long to wait before the next attempt: a fiftieth of the time without a connection, 20 ms to 2 s, with jitter. So a broker that was away
    /// for the few seconds of a restart is found again within a tenth of a second, and one that is away for long is not stormed.
    pub(super) fn delay(&self) -> Duration {
        let lost_at = *self.state.lock().lost_at.get_or_insert_with(Instant::now);
        let delay = (lost_at.elapsed() / 50).clamp(FIRST_DELAY, LONGEST_DELAY);
        let mut byte = [0_u8; 1];
        // Without randomness there is no jitter.
        let _ = getrandom::fill(&mut byte);
        delay.mul_f64(1.0 - f64::from(byte[0]) / 512.0)
    }

    /// The connection, however long it takes; `None` when the bus is closed. For what has been connected before.
    pub(super) async fn get_again(self: &Arc<Self>) -> Option<Arc<Live>> {
        loop {
            match self.get().await {
                Ok(connection) => return Some(connection),
                Err(BusError::Closed {}) => return None,
                Err(error) => tracing::debug!(%error, connection = self.name, "no connection yet"),
            }
            sleep(self.delay()).await;
        }
    }

    /// The connection, within `startup_wait`.
    pub(super) async fn get_first(self: &Arc<Self>) -> Result<Arc<Live>, BusError> {
        let deadline = Instant::now() + self.config.startup_wait;
        loop {
            match self.get().await {
                Err(error) if error_may_pass(&error) => {
                    let delay = self.delay();
                    if Instant::now() + delay >= deadline {
                        return Err(error);
                    }
                    sleep(delay).await;
                }
                other => return other,
            }
        }
    }

    /// Closes the connection politely, `patience` at most. There is no other after this.
    pub(super) async fn close(&self, patience: Duration) {
        self.closed.store(true, Ordering::Release);
        let connection = self.state.lock().connection.take();
        if let Some(connection) = connection {
            // It may be gone already, which is what is wanted.
            let _ = timeout(patience, connection.connection.close(200, "OK".into())).await;
        }
    }
}

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

fn error_may_pass(error: &BusError) -> bool {
    matches!(error, BusError::Unavailable { .. })
}

async fn connect(config: &RabbitmqConfig, name: &str) -> Result<Connection, BusError> {
    let place = format!("{}:{}", config.host, config.port);
    let late = || {
        unavailable(format!(
            "{place} did not answer within {} s",
            config.connect_timeout.as_secs_f64()
        ))
    };
    timeout(config.connect_timeout, handshake(config, name, &place))
        .await
        .map_err(|_| late())?
}

async fn handshake(
    config: &RabbitmqConfig,
    name: &str,
    place: &str,
) -> Result<Connection, BusError> {
    let io_error = |error: &io::Error| unavailable(format!("{place}: {error}"));
    let addresses = tokio::net::lookup_host((config.host.as_str(), config.port))
        .await
        .map_err(|error| unavailable(format!("host {} is unknown: {error}", config.host)))?;
    let runtime = lapin::runtime::default_runtime().map_err(|error| login_error(&error))?;
    let mut stream = Err(io::Error::other("it has no address"));
    for address in addresses {
        stream = AsyncTcpStream::connect(&runtime, address).await;
        if stream.is_ok() {
            break;
        }
    }
    let stream = stream.map_err(|error| io_error(&error))?;
    #[cfg(unix)]
    let hang_up = HangUp(match &stream {
        AsyncTcpStream::Plain(stream) => stream
            .get_ref()
            .as_fd()
            .try_clone_to_owned()
            .ok()
            .map(Into::into),
        _ => None,
    });
    let stream = if config.tls {
        let connector = tls::connector(config).map_err(unavailable)?;
        let server_name = config.server_name.as_deref().unwrap_or(&config.host);
        stream
            .into_rustls(&connector, server_name)
            .await
            .map_err(|error| unavailable(format!("{place}: TLS failed: {error}")))?
    } else {
        stream
    };
    let stream = Mutex::new(Some(stream));
    let connect = async move |_, _| {
        let stream = stream.lock().take();
        stream.ok_or_else(|| io::Error::other("the connection was used already").into())
    };
    let connection = Connection::connector(uri(config), runtime, connect, properties(name))
        .await
        .map_err(|error| match login_error(&error) {
            BusError::Unavailable { reason } => unavailable(format!("{place}: {reason}")),
            other => other,
        })?;
    #[cfg(unix)]
    hang_up.keep();
    Ok(connection)
}

#[cfg(unix)]
/// Ends lapin's thread, which would otherwise wait for ever for somebody who accepted the connection and then says nothing.
struct HangUp(Option<std::net::TcpStream>);

#[cfg(unix)]
impl HangUp {
    fn keep(mut self) {
        self.0 = None;
    }
}

#[cfg(unix)]
impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn properties(name: &str) -> ConnectionProperties {
    ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "Orkestra".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
}

fn uri(config: &RabbitmqConfig) -> AMQPUri {
    AMQPUri {
        // The stream that it gets is encrypted already.
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: config.user.clone(),
                password: config.password.clone(),
            },
            host: config.host.clone(),
            port: config.port,
        },
        vhost: config.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(config.heartbeat),
            ..AMQPQueryString::default()
        },
    }
}
