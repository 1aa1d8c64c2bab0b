//! The adapters of an app, opened by URL: the one place that knows them all. The Rust app and both bindings start here.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use futures_util::future::select;
use parking_lot::Mutex;

#[cfg(feature = "kurrentdb")]
use crate::adapters::kurrentdb::{KurrentdbConfig, KurrentdbStore};
#[cfg(feature = "postgres")]
use crate::adapters::postgres::{PostgresConfig, PostgresStore};
#[cfg(feature = "rabbitmq")]
use crate::adapters::rabbitmq::{RabbitmqBus, RabbitmqConfig};
#[cfg(feature = "sqlite")]
use crate::adapters::sqlite::{SqliteConfig, SqliteStore};
use crate::{
    AppError, Error,
    adapters::memory::MemoryStore,
    app::redact::{redact, scheme_of},
    background::Background,
    broker::{Broker, Desk},
    clock::{Clock, IdSource, SystemClock, SystemIds},
    message::{DEFAULT_MAX_PAYLOAD_BYTES, PayloadLimits},
    outbox::{
        LocalOutbox, OutboxReader, Parking, RELAY, Relay, RelayHealth, RelayOptions, RunningRelay,
        WINDOW,
    },
    ports::{
        Bus, CheckpointStore, DeadLetter, DeadLetterStore, EventStore, InboxStore, LeaseStore,
        OutboxStore, SnapshotStore, TypeFilter,
    },
    projection::{
        Mode, Ports as ProjectionPorts, Projection, ProjectionOptions, ProjectionState, state_of,
    },
    retention::Retention,
    subscription::{Pauses, Start, Subscription, SubscriptionOptions},
    telemetry::Telemetry,
};

/// The store that an app has when it names none.
pub const DEFAULT_STORE: &str = "sqlite:orkestra.db";

/// What an app is opened with.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// `memory:`, the default, or `amqp[s]://user:password@host:port/vhost?…` for RabbitMQ.
    pub bus: Option<String>,
    /// `sqlite:<path>`, `postgres://…`, `memory:`, or `kurrentdb://…` with another `state`. Default `sqlite:orkestra.db`.
    pub store: Option<String>,
    /// Where checkpoints, leases, dead letters, outbox and inbox are kept: `sqlite:<path>`, `postgres://…` or `memory:`. Default: in the store.
    pub state: Option<String>,
    /// The longest payload in bytes. Default 1 MiB.
    pub max_payload_bytes: Option<usize>,
    /// Default: the machine's clock.
    pub clock: Option<Arc<dyn Clock>>,
    /// Default: version 7 UUIDs from the operating system's randomness.
    pub ids: Option<Arc<dyn IdSource>>,
    /// Default: nobody listens.
    pub telemetry: Telemetry,
}

/// What the bus's URL names.
#[derive(Debug, Clone)]
pub enum BusBackend {
    /// `memory:`
    Memory,
    /// `amqp://…` or `amqps://…`
    #[cfg(feature = "rabbitmq")]
    Rabbitmq(Box<RabbitmqConfig>),
}

/// What a store's URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// `memory:`
    Memory,
    /// `sqlite:<path>`
    Sqlite(PathBuf),
    /// `postgres://…` or `postgresql://…`
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresConfig>),
    /// `kurrentdb://…` or `esdb://…`: events and snapshots only.
    #[cfg(feature = "kurrentdb")]
    Kurrentdb(Box<KurrentdbConfig>),
}

impl Backend {
    /// Whether checkpoints, leases and dead letters can be kept there.
    fn holds_state(&self) -> bool {
        match self {
            #[cfg(feature = "kurrentdb")]
            Self::Kurrentdb(_) => false,
            _ => true,
        }
    }
}

/// The checked settings: nothing is opened yet.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What carries messages between processes.
    pub bus: BusBackend,
    /// Where events and snapshots go.
    pub store: Backend,
    /// Where checkpoints, leases, dead letters, outbox and inbox go; `None` for the store.
    pub state: Option<Backend>,
    /// Limits of payloads.
    pub limits: PayloadLimits,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The clock if the settings name one: a database that has a clock of its own goes by that otherwise.
    told_clock: Option<Arc<dyn Clock>>,
    /// The ids.
    pub ids: Arc<dyn IdSource>,
    /// The spans.
    pub telemetry: Telemetry,
}

impl Plan {
    /// Checks `settings` without any I/O.
    ///
    /// # Errors
    /// [`AppError::InvalidUrl`] names the setting and what is wrong with its URL; [`AppError::InvalidSetting`].
    pub fn new(settings: Settings) -> Result<Self, AppError> {
        let bus = parse_bus(settings.bus.as_deref().unwrap_or("memory:"))?;
        let store = parse("store", settings.store.as_deref().unwrap_or(DEFAULT_STORE))?;
        let state = match settings.state.as_deref() {
            None => None,
            Some(url) => Some(parse("state", url)?).filter(|state| *state != store),
        };
        if !state.as_ref().unwrap_or(&store).holds_state() {
            return Err(no_state());
        }
        let max_bytes = settings
            .max_payload_bytes
            .unwrap_or(DEFAULT_MAX_PAYLOAD_BYTES);
        if max_bytes < 2 {
            return Err(AppError::InvalidSetting {
                setting: "max_payload_bytes".into(),
                reason: format!("expected at least 2, found {max_bytes}"),
            });
        }
        Ok(Self {
            bus,
            store,
            state,
            limits: PayloadLimits { max_bytes },
            told_clock: settings.clock.clone(),
            clock: settings
                .clock
                .unwrap_or_else(|| Arc::new(SystemClock::default())),
            ids: settings
                .ids
                .unwrap_or_else(|| Arc::new(SystemIds::default())),
            telemetry: settings.telemetry,
        })
    }

    /// Whether nothing of the app outlives its process.
    pub fn is_memory_only(&self) -> bool {
        !self.has_broker()
            && self.store == Backend::Memory
            && matches!(self.state, None | Some(Backend::Memory))
    }

    /// The schema of the state in PostgreSQL, whose functions work in the user's own transaction; `None` if the state is kept elsewhere.
    pub fn state_schema(&self) -> Option<&str> {
        match self.state.as_ref().unwrap_or(&self.store) {
            #[cfg(feature = "postgres")]
            Backend::Postgres(config) => Some(config.schema()),
            _ => None,
        }
    }

    /// The files of the app's own stores in SQLite, which nothing else may open.
    pub(super) fn sqlite_files(&self) -> Vec<PathBuf> {
        let backends = [Some(&self.store), self.state.as_ref()];
        let path = |backend: &Backend| match backend {
            Backend::Sqlite(path) => Some(path.clone()),
            _ => None,
        };
        backends.into_iter().flatten().filter_map(path).collect()
    }

    /// Whether messages go through a broker.
    pub fn has_broker(&self) -> bool {
        !matches!(self.bus, BusBackend::Memory)
    }

    /// Opens the adapters for the app of that (underscored) name. This may block on the disk; a broker is connected to when it is first needed.
    ///
    /// # Errors
    /// [`StoreError`](crate::ports::StoreError) of the adapter that could not be opened.
    pub fn open(&self, app: &str) -> Result<Services, Error> {
        let state = self.state.as_ref();
        let state = state.map(|b| Ports::open(b, self)).transpose()?;
        let store = match (&self.store, &state) {
            #[cfg(feature = "kurrentdb")]
            (Backend::Kurrentdb(config), Some(state)) => {
                state.with_log(KurrentdbStore::open((**config).clone())?)
            }
            (backend, _) => Ports::open(backend, self)?,
        };
        let state = state.unwrap_or_else(|| store.clone());
        let durable = *self.state.as_ref().unwrap_or(&self.store) != Backend::Memory;
        let background = Background::default();
        let broker = self.open_bus(app)?.map(|bus| {
            Broker::new(
                bus,
                durable.then(|| Arc::clone(&state.dead_letters)),
                Arc::clone(&self.clock),
                Arc::clone(&self.ids),
                background.clone(),
            )
            .with_entries(Arc::clone(&state.dead_letters))
            .with_inbox(Arc::clone(&state.inbox))
            .traced(self.telemetry.clone())
        });
        Ok(Services {
            events: store.events,
            snapshots: store.snapshots,
            checkpoints: state.checkpoints,
            leases: state.leases,
            dead_letters: state.dead_letters,
            outbox: state.outbox,
            inbox: state.inbox,
            broker,
            background,
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            state_events: self.state.is_some().then_some(state.events),
            relay: Arc::default(),
            pauses: Pauses::default(),
            local: Arc::default(),
        })
    }

    #[cfg(feature = "rabbitmq")]
    fn open_bus(&self, app: &str) -> Result<Option<Arc<dyn Bus>>, Error> {
        match &self.bus {
            BusBackend::Memory => Ok(None),
            BusBackend::Rabbitmq(config) => Ok(Some(Arc::new(RabbitmqBus::open(
                (**config).clone(),
                app,
                Arc::clone(&self.clock),
            )?))),
        }
    }

    #[cfg(not(feature = "rabbitmq"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the shape of the other build"
    )]
    fn open_bus(&self, _app: &str) -> Result<Option<Arc<dyn Bus>>, Error> {
        Ok(None)
    }
}

/// The opened adapters of an app.
#[derive(Debug, Clone)]
pub struct Services {
    /// Streams of events.
    pub events: Arc<dyn EventStore>,
    /// Saved folds.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Where named readers stand.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// Rights to names.
    pub leases: Arc<dyn LeaseStore>,
    /// Messages given up on.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// Messages that are to leave.
    pub outbox: Arc<dyn OutboxStore>,
    /// What was handled.
    pub inbox: Arc<dyn InboxStore>,
    /// What carries messages between processes; `None` in process.
    pub broker: Option<Broker>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The ids.
    pub ids: Arc<dyn IdSource>,
    /// What renews leases whatever the host's loop is doing.
    pub background: Background,
    /// The state's own store, to be closed with the rest.
    state_events: Option<Arc<dyn EventStore>>,
    relay: Arc<Mutex<Option<RunningRelay>>>,
    pauses: Pauses,
    local: Arc<Mutex<Option<LocalOutbox>>>,
}

/// How long closing waits for the relay to publish what is left in the log, and then for the bus.
const LAST_WAIT: Duration = Duration::from_secs(5);

impl Services {
    /// A reader of the log: of all processes the only one under `name` at a time; or transient without a name.
    pub fn subscribe(&self, name: Option<String>, options: SubscriptionOptions) -> Subscription {
        let events = Arc::clone(&self.events);
        let Some(name) = name else {
            return Subscription::transient(events, options);
        };
        let owner = self.ids.next_id(self.clock.now()).to_string();
        Subscription::durable(events, Arc::clone(&self.checkpoints), name, options)
            .owned(Arc::clone(&self.leases), owner, Arc::clone(&self.clock))
            .kept_by(self.background.clone())
    }

    /// The reader of the projection `name` (`<app>.<projection>`), of all processes the only one: of its live view, or of a rebuild beside it.
    pub fn projection(
        &self,
        name: impl Into<String>,
        mode: Mode,
        options: &ProjectionOptions,
    ) -> Projection {
        let ports = ProjectionPorts {
            events: Arc::clone(&self.events),
            checkpoints: Arc::clone(&self.checkpoints),
            leases: Arc::clone(&self.leases),
            clock: Arc::clone(&self.clock),
            background: self.background.clone(),
            pauses: self.pauses.clone(),
            owner: self.ids.next_id(self.clock.now()).to_string(),
        };
        Projection::new(ports, name.into(), mode, options)
    }

    /// How far the projection `name` (`<app>.<projection>`) is, in whichever process it runs.
    ///
    /// # Errors
    /// What the stores say.
    pub async fn projection_state(&self, name: &str) -> Result<ProjectionState, Error> {
        Ok(state_of(&*self.events, &*self.checkpoints, name).await?)
    }

    /// Starts publishing the log and the outbox to the broker, to be called when the handlers' queues are there and before the first message is handled: every event appended after this, in order, at least once, by one process at a time of those
    /// that share the state store. Without a broker, or called again, it does nothing.
    ///
    /// The relay reads as the subscription [`RELAY`], whose checkpoint says how far the log is published. It begins at the end of the log at
    /// the very first start, and where the last one ended ever after. It runs on a thread of the core, tries for ever while the broker is
    /// away, and parks what the broker never takes as a dead letter of the handler [`RELAY`]. [`Services::close`] stops it.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use orkestra::{Services, outbox::RelayOptions, registry::Registry};
    /// # async fn start(services: &Services, registry: Arc<Registry>) -> Result<(), orkestra::Error> {
    /// let topics = Arc::new(move |type_name: &str| registry.topic_for(type_name).ok());
    /// let options = RelayOptions::new(topics).on_dead_letter(|letter| eprintln!("{}", letter.message_id));
    /// services.start_relay(options).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the stores say.
    pub async fn start_relay(&self, options: RelayOptions) -> Result<(), Error> {
        let Some(broker) = self.broker.clone() else {
            return Ok(());
        };
        if self.relay.lock().is_some() {
            return Ok(());
        }
        let reading =
            SubscriptionOptions::new(Start::Now, TypeFilter::default()).batch_size(WINDOW);
        let subscription = self.subscribe(Some(RELAY.to_owned()), reading);
        let dead_letters = Arc::clone(&self.dead_letters);
        let mut relay = Relay::new(subscription, broker, dead_letters, options);
        relay.open().await?;
        self.relay
            .lock()
            .get_or_insert_with(|| relay.start(self.outbox_reader(), &self.background));
        Ok(())
    }

    fn outbox_reader(&self) -> OutboxReader {
        let owner = self.ids.next_id(self.clock.now()).to_string();
        OutboxReader::new(
            Arc::clone(&self.outbox),
            Arc::clone(&self.leases),
            owner,
            Arc::clone(&self.clock),
            self.background.clone(),
        )
    }

    /// Without a broker: the messages of the outbox on their way to the handlers of this process, `None` with one. The host consumes each of its handlers
    /// from it and [starts](LocalOutbox::start) it; [`Services::close`] stops it. A command for which there is no handler is parked as a dead letter of
    /// [`RELAY`], and `on_dead_letter` told of it.
    pub fn local_outbox(
        &self,
        on_dead_letter: impl Fn(&DeadLetter) + Send + Sync + 'static,
    ) -> Option<LocalOutbox> {
        if self.broker.is_some() {
            return None;
        }
        let mut local = self.local.lock();
        let outbox = local.get_or_insert_with(|| {
            let desk = Desk {
                dead_letters: Some(Arc::clone(&self.dead_letters)),
                handled: Some(Arc::clone(&self.inbox)),
                clock: Arc::clone(&self.clock),
                ids: Arc::clone(&self.ids),
                background: self.background.clone(),
                telemetry: Telemetry::off(),
            };
            let parking = Parking {
                clock: Arc::clone(&self.clock),
                ids: Arc::clone(&self.ids),
                dead_letters: Arc::clone(&self.dead_letters),
                listener: Some(Arc::new(on_dead_letter)),
            };
            LocalOutbox::new(desk, self.outbox_reader(), parking)
        });
        Some(outbox.clone())
    }

    /// Lets go of what is old, while the system runs.
    pub fn retention(&self) -> Retention {
        Retention {
            events: Arc::clone(&self.events),
            dead_letters: Arc::clone(&self.dead_letters),
            outbox: Arc::clone(&self.outbox),
            inbox: Arc::clone(&self.inbox),
            clock: Arc::clone(&self.clock),
        }
    }

    /// How the relay is, `None` if there is none.
    pub fn relay_health(&self) -> Option<RelayHealth> {
        self.relay.lock().as_ref().map(RunningRelay::health)
    }

    /// Closes the adapters: what was accepted is finished, what is in the log published, what is in hand settled, 5 s each at most. Safe to
    /// call again.
    ///
    /// A host has stopped taking messages before ([`Broker::pause`]).
    ///
    /// # Errors
    /// The first error of an adapter; the others are closed all the same.
    pub async fn close(&self) -> Result<(), Error> {
        let relay = self.relay.lock().take();
        if let Some(relay) = relay {
            relay.stop(&*self.clock, LAST_WAIT).await;
        }
        let local = self.local.lock().take();
        if let Some(local) = local {
            local.stop(LAST_WAIT).await;
        }
        if let Some(broker) = &self.broker {
            broker.close(LAST_WAIT).await;
        }
        // What was dropped a moment ago still gives its lease back.
        let settled = pin!(self.background.settled());
        select(settled, self.clock.sleep(LAST_WAIT)).await;
        let events = self.events.close().await;
        let state = match &self.state_events {
            Some(state) => state.close().await,
            None => Ok(()),
        };
        Ok(events.and(state)?)
    }
}

#[derive(Clone)]
struct Ports {
    events: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    checkpoints: Arc<dyn CheckpointStore>,
    leases: Arc<dyn LeaseStore>,
    dead_letters: Arc<dyn DeadLetterStore>,
    outbox: Arc<dyn OutboxStore>,
    inbox: Arc<dyn InboxStore>,
}

impl Ports {
    fn of<S>(store: S) -> Self
    where
        S: EventStore
            + SnapshotStore
            + CheckpointStore
            + LeaseStore
            + DeadLetterStore
            + OutboxStore
            + InboxStore
            + 'static,
    {
        let store = Arc::new(store);
        Self {
            events: store.clone(),
            snapshots: store.clone(),
            checkpoints: store.clone(),
            leases: store.clone(),
            dead_letters: store.clone(),
            outbox: store.clone(),
            inbox: store,
        }
    }

    /// The same state with events and snapshots elsewhere.
    #[cfg(feature = "kurrentdb")]
    fn with_log<S: EventStore + SnapshotStore + 'static>(&self, store: S) -> Self {
        let store = Arc::new(store);
        Self {
            events: store.clone(),
            snapshots: store,
            ..self.clone()
        }
    }

    fn open(backend: &Backend, plan: &Plan) -> Result<Self, Error> {
        let clock = &plan.clock;
        match backend {
            Backend::Memory => Ok(Self::of(MemoryStore::new(Arc::clone(clock)))),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(path) => Ok(Self::of(SqliteStore::open(SqliteConfig::new(
                path,
                Arc::clone(clock),
            ))?)),
            #[cfg(feature = "postgres")]
            Backend::Postgres(config) => Ok(Self::of(PostgresStore::open(
                (**config).clone(),
                plan.told_clock.clone(),
            )?)),
            #[cfg(feature = "kurrentdb")]
            Backend::Kurrentdb(_) => Err(no_state().into()),
            #[cfg(not(feature = "sqlite"))]
            Backend::Sqlite(path) => Err(AppError::InvalidUrl {
                setting: "store".into(),
                url: format!("sqlite:{}", path.display()),
                reason: "this build has no SQLite".into(),
            }
            .into()),
        }
    }
}

/// KurrentDB is the only place for the state.
fn no_state() -> AppError {
    AppError::InvalidSetting {
        setting: "state".into(),
        reason: "expected a store that can hold checkpoints, leases and dead letters, sqlite:<path> for example, as KurrentDB cannot"
            .into(),
    }
}

fn refuse(setting: &str, url: &str, reason: String) -> AppError {
    AppError::InvalidUrl {
        setting: setting.to_owned(),
        url: redact(url),
        reason,
    }
}

fn parse_bus(url: &str) -> Result<BusBackend, AppError> {
    let expected = "expected memory: or amqp[s]://user:password@host:port/vhost";
    match url.split_once(':') {
        None => Err(refuse("bus", url, format!("{expected}, found no scheme"))),
        Some(("memory", "")) => Ok(BusBackend::Memory),
        Some(("memory", _)) => Err(refuse("bus", url, "expected nothing after memory:".into())),
        #[cfg(feature = "rabbitmq")]
        Some(("amqp" | "amqps", _)) => RabbitmqConfig::parse(url)
            .map(|config| BusBackend::Rabbitmq(Box::new(config)))
            .map_err(|reason| refuse("bus", url, reason)),
        Some(_) => {
            let found = scheme_of(url).map_or("no scheme".into(), |s| format!("the scheme {s}"));
            Err(refuse("bus", url, format!("{expected}, found {found}")))
        }
    }
}

fn parse(setting: &str, url: &str) -> Result<Backend, AppError> {
    let expected = "memory:, sqlite:<path>, postgres://user:password@host:port/database or kurrentdb://host:port";
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(refuse(
            setting,
            url,
            format!("expected {expected}, found no scheme"),
        ));
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Backend::Memory),
        "memory" => Err(refuse(
            setting,
            url,
            "expected nothing after memory:".into(),
        )),
        "sqlite" => {
            // `sqlite:///var/x.db` is how other tools write an absolute path.
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() || path == ":memory:" {
                return Err(refuse(
                    setting,
                    url,
                    "expected a path after sqlite:, or memory: for a store in memory".into(),
                ));
            }
            if path.contains('\0') || path.contains('?') {
                return Err(refuse(setting, url, "expected a plain path".into()));
            }
            Ok(Backend::Sqlite(PathBuf::from(path)))
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => PostgresConfig::parse(url)
            .map(|config| Backend::Postgres(Box::new(config)))
            .map_err(|reason| refuse(setting, url, reason)),
        #[cfg(feature = "kurrentdb")]
        "kurrentdb" | "kurrentdb+discover" | "esdb" | "esdb+discover" => {
            KurrentdbConfig::parse(url)
                .map(|config| Backend::Kurrentdb(Box::new(config)))
                .map_err(|reason| refuse(setting, url, reason))
        }
        _ => {
            let found = scheme_of(url).map_or_else(
                || "no scheme".to_owned(),
                |scheme| format!("the scheme {scheme}, which this release does not have"),
            );
            Err(refuse(
                setting,
                url,
                format!("expected {expected}, found {found}"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(bus: &str, store: &str) -> Result<Plan, AppError> {
        Plan::new(Settings {
            bus: Some(bus.into()),
            store: Some(store.into()),
            ..Settings::default()
        })
    }

    #[test]
    fn urls_name_their_adapters() {
        assert_eq!(plan("memory:", "memory:").unwrap().store, Backend::Memory);
        for (url, path) in [
            ("sqlite:orders.db", "orders.db"),
            ("sqlite:/var/orders.db", "/var/orders.db"),
            ("sqlite:///var/orders.db", "/var/orders.db"),
        ] {
            assert_eq!(
                plan("memory:", url).unwrap().store,
                Backend::Sqlite(path.into())
            );
        }
        let default = Plan::new(Settings::default()).unwrap();
        assert_eq!(default.store, Backend::Sqlite("orkestra.db".into()));
        assert!(!default.is_memory_only());
    }

    #[cfg(feature = "kurrentdb")]
    #[test]
    fn a_store_that_cannot_hold_state_asks_for_another() {
        let plan = |store: &str, state: Option<&str>| {
            Plan::new(Settings {
                store: Some(store.into()),
                state: state.map(Into::into),
                ..Settings::default()
            })
        };
        let kurrent = "kurrentdb://admin:changeit@localhost:2113?tls=false";
        assert!(plan(kurrent, Some("sqlite:state.db")).is_ok());
        for (store, state) in [
            (kurrent, None),
            (kurrent, Some(kurrent)),
            ("sqlite:orders.db", Some(kurrent)),
            (kurrent, Some("esdb://other")),
        ] {
            let error = plan(store, state).unwrap_err();
            assert!(
                matches!(&error, AppError::InvalidSetting { setting, .. } if setting == "state"),
                "{error}"
            );
        }
        let error = plan("esdb://u:secret@h?tsl=no", None)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("store: esdb://u:***@h?tsl=no: expected one"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_url_names_its_setting_and_hides_its_password() {
        let error = plan("amqq://guest:secret@localhost", "memory:")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("bus: amqq://guest:***@localhost:"),
            "{error}"
        );
        assert!(!error.contains("secret"));
        for url in [
            "",
            "orders.db",
            "sqlite:",
            "sqlite::memory:",
            "memory:x",
            "sqlite:a?b=c",
        ] {
            let error = plan("memory:", url).unwrap_err().to_string();
            assert!(error.starts_with("store: "), "{error}");
        }
    }
}
