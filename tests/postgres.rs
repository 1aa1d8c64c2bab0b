//! PostgreSQL for tests: databases of the server that the run shares (`make test` starts it), and servers that a scenario
//! may stop. Both through `scripts/postgres.sh`.

use std::{
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tempfile::TempDir;

use crate::private::{free_port, required, run, setting};

/// A server: the one of the whole run, or a [`Node`]'s.
#[derive(Debug, Clone)]
pub struct Server {
    folder: PathBuf,
    /// `user:password@host:port`, the user being a superuser.
    address: String,
    /// The same for the pooler in transaction mode.
    pooler: Option<String>,
}

/// The server of the run, or `None` when there is none and none is required.
///
/// # Panics
/// If there is none and `ORKESTRA_TEST_REQUIRE` names postgres.
pub fn shared() -> Option<Server> {
    let (url, folder) = (
        setting("ORKESTRA_TEST_POSTGRES"),
        setting("ORKESTRA_TEST_POSTGRES_FOLDER"),
    );
    if let (Some(url), Some(folder)) = (url, folder) {
        return Some(Server {
            folder: folder.into(),
            address: address(&url),
            pooler: setting("ORKESTRA_TEST_PGBOUNCER").map(|url| address(&url)),
        });
    }
    required(
        "postgres",
        "no PostgreSQL (ORKESTRA_TEST_POSTGRES, ORKESTRA_TEST_POSTGRES_FOLDER)",
    );
    None
}

fn address(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    rest.split('/').next().unwrap().to_owned()
}

/// Counts what tests make.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// The URL of a new, empty database, whose name begins so and is used by nobody else. For what ends sessions, changes settings or names the
    /// schema `orkestra`; else [`Server::schema`] is enough.
    pub fn database(&self, name: &str) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name:.40}_{}_{number}", std::process::id());
        script("database", &self.folder, &[&name]);
        format!("postgres://{}/{name}", self.address)
    }

    /// The URL of a schema that is not there yet, in a database that the tests of this process share. It takes a tenth of the room and of the time that
    /// a database does.
    pub fn schema(&self, name: &str) -> String {
        static SHARED: OnceLock<String> = OnceLock::new();
        let database = SHARED.get_or_init(|| self.database("schemas"));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{database}?schema={name:.40}_{number}")
    }

    /// The same database through the pooler in transaction mode; `None` if there is none and none is required.
    ///
    /// # Panics
    /// If there is none and `ORKESTRA_TEST_REQUIRE` names postgres.
    pub fn through_pooler(&self, url: &str) -> Option<String> {
        let Some(pooler) = &self.pooler else {
            required("postgres", "no PgBouncer (ORKESTRA_TEST_PGBOUNCER)");
            return None;
        };
        Some(url.replacen(&self.address, pooler, 1))
    }

    /// The folder of the certificates: `ca.pem`, and of a client `client.pem`, `client.key`.
    pub fn tls(&self) -> PathBuf {
        self.folder.join("tls")
    }

    /// What a statement prints, run as superuser in the database of that URL: a line per row, columns separated by tabs.
    pub fn sql(&self, url: &str, statement: &str) -> String {
        let (_, path) = url.rsplit_once('/').unwrap();
        let database = path.split('?').next().unwrap();
        script("sql", &self.folder, &[database, statement])
    }

    /// Ends the sessions in the database of that URL whose `application_name` or statement is like `pattern`; how many.
    pub fn terminate(&self, url: &str, pattern: &str) -> usize {
        let terminate = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND (application_name LIKE '{pattern}' OR query LIKE '{pattern}')"
        );
        self.sql(url, &terminate).lines().count()
    }
}

/// A server of one test, removed when dropped, and by itself when this process is killed.
#[derive(Debug)]
pub struct Node {
    folder: TempDir,
    /// Where it listens; its pooler is on the next one.
    pub port: u16,
}

impl Node {
    /// A server that is not started yet: nobody listens on its port.
    pub fn stopped() -> Self {
        Self {
            folder: TempDir::with_prefix("orkestra-postgres-").unwrap(),
            port: free_port(24_000, &[0, 1]),
        }
    }

    /// A server that accepts connections.
    pub fn started() -> Self {
        let node = Self::stopped();
        node.start();
        node
    }

    /// The same with its folder in `parent`.
    pub fn started_in(parent: &Path) -> Self {
        let node = Self {
            folder: TempDir::with_prefix_in("orkestra-postgres-", parent).unwrap(),
            port: free_port(24_000, &[0, 1]),
        };
        node.start();
        node
    }

    /// The server, for what can be asked of any.
    pub fn server(&self) -> Server {
        Server {
            folder: self.folder.path().into(),
            address: format!("orkestra:orkestra@127.0.0.1:{}", self.port),
            pooler: Some(format!("orkestra:orkestra@127.0.0.1:{}", self.port + 1)),
        }
    }

    /// Returns when it accepts connections.
    pub fn start(&self) {
        let (port, owner) = (self.port.to_string(), std::process::id().to_string());
        script("start", self.folder.path(), &[&port, &owner]);
    }

    /// In order: transactions are rolled back, connections are closed.
    pub fn stop(&self) {
        script("stop", self.folder.path(), &[]);
    }

    /// At once: connections are closed, nothing is saved.
    pub fn kill(&self) {
        script("kill", self.folder.path(), &[]);
    }

    /// SIGKILL, as a power cut does: nobody is told.
    pub fn crash(&self) {
        script("crash", self.folder.path(), &[]);
    }

    /// Starts the pooler in front of it.
    pub fn start_pooler(&self) {
        script("pooler", self.folder.path(), &["start"]);
    }

    /// Stops the pooler.
    pub fn stop_pooler(&self) {
        script("pooler", self.folder.path(), &["stop"]);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        script("remove", self.folder.path(), &[]);
    }
}

fn script(command: &str, folder: &Path, rest: &[&str]) -> String {
    run("postgres.sh", &[command], folder, rest)
}
