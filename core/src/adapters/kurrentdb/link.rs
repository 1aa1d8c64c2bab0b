//! The client, made when it is first needed and again when it has given up, and every call through it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use kurrentdb::{Client, ClientSettings, Error};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use super::{
    config::KurrentdbConfig,
    error::{Failure, denied, no_connection, server_error, unavailable},
    probe,
};
use crate::ports::StoreError;

/// The connection to a server or a cluster.
pub(super) struct Link {
    config: Arc<KurrentdbConfig>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    /// How many clients there have been.
    made: u64,
    /// Whether there has ever been an answer.
    ever: bool,
    /// When the first connection was first tried.
    first_try: Option<Instant>,
}

const FIRST_DELAY: Duration = Duration::from_millis(50);

impl Link {
    pub(super) fn new(config: Arc<KurrentdbConfig>) -> Self {
        Self {
            config,
            state: Mutex::default(),
        }
    }

    pub(super) fn config(&self) -> &KurrentdbConfig {
        &self.config
    }

    fn client(&self) -> Result<(Client, u64), StoreError> {
        let mut state = self.state.lock();
        if let Some(client) = &state.client {
            return Ok((client.clone(), state.made));
        }
        let settings: ClientSettings = self
            .config
            .connection_string()
            .parse()
            .map_err(|_| unavailable("the client does not take the URL"))?;
        let handle = Handle::current();
        let made = catch_unwind(AssertUnwindSafe(|| {
            Client::with_runtime_handle(handle, settings)
        }));
        let client = match made {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(unavailable(&error.to_string())),
            Err(_) => return Err(unavailable("a certificate cannot be used")),
        };
        state.made += 1;
        state.client = Some(client.clone());
        Ok((client, state.made))
    }

    /// Lets go of the client numbered `made`, if it is still the one in use.
    fn forget(&self, made: u64) {
        let mut state = self.state.lock();
        if state.made == made {
            state.client = None;
        }
    }

    /// Lets go of the client, for good when the store is closed.
    pub(super) fn close(&self) {
        self.state.lock().client = None;
    }

    /// Does `action`, called `what` in errors, within the deadline. It is done again only where it cannot have been done.
    pub(super) async fn call<T, F, Fut>(&self, what: &str, action: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let deadline = self.config.deadline;
        let mut redirected = false;
        loop {
            let (client, made) = self.client()?;
            let error = match timeout(deadline, action(client)).await {
                Ok(Ok(result)) => {
                    self.state.lock().ever = true;
                    return Ok(result);
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(Failure::Late(deadline)),
            };
            match error {
                // The client goes to the leader now.
                Error::NotLeaderException(_) if !redirected => redirected = true,
                Error::ConnectionClosed | Error::GrpcConnectionError(_) => {
                    self.forget(made);
                    if !self.may_wait().await {
                        return Err(self.diagnose().await.into());
                    }
                }
                Error::ServerError(message) => {
                    if self.config.is_cluster() {
                        // A new client looks for a node that is alive; the old one keeps to the node that it has.
                        self.forget(made);
                    }
                    return Err(server_error(what, &message).into());
                }
                Error::DeadlineExceeded => return Err(Failure::Late(deadline)),
                Error::AccessDenied => {
                    let let_in = self.state.lock().ever;
                    return Err(denied(&self.config.place(), what, let_in).into());
                }
                error => {
                    self.state.lock().ever = true;
                    return Err(Failure::of(error, what));
                }
            }
        }
    }

    /// Waits a moment if the first connection may still take its time.
    async fn may_wait(&self) -> bool {
        let wait = {
            let mut state = self.state.lock();
            let first = *state.first_try.get_or_insert_with(Instant::now);
            !state.ever && Instant::now() + FIRST_DELAY < first + self.config.startup_wait
        };
        if wait {
            sleep(FIRST_DELAY).await;
        }
        wait
    }

    async fn diagnose(&self) -> StoreError {
        let (config, place) = (Arc::clone(&self.config), self.config.place());
        let patience = self.config.deadline.min(Duration::from_secs(3));
        let looked = tokio::task::spawn_blocking(move || probe::why(&config, patience)).await;
        match looked {
            Ok(reason) => no_connection(&place, reason),
            Err(_) => unavailable(&place),
        }
    }
}
