//! The URL of a database: everything about it is in there, so that a URL is enough to reach it.

use std::{fmt, path::PathBuf, time::Duration};

use crate::adapters::shared::url::{
    both, decode, host_and_port, number, parts, path, seconds, unknown, word, wrong,
};

/// The port unless the URL says another.
const PORT: u16 = 5432;

/// When the connection is encrypted, and whom it trusts; the words are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SslMode {
    /// Never.
    Disable,
    /// If the server can; anybody is trusted.
    #[default]
    Prefer,
    /// Always; anybody is trusted, unless `sslrootcert` is given.
    Require,
    /// Always; the certificate must be signed by somebody trusted.
    VerifyCa,
    /// Always; and it must have the host's name.
    VerifyFull,
}

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pooler {
    /// Nothing, or a pooler that gives a connection a session of its own.
    #[default]
    Session,
    /// A pooler that gives a transaction any session: nothing may stay behind in it.
    Transaction,
}

/// Where the database is and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Host name or address, an IPv6 address without its brackets; a folder with a socket if it begins with `/`.
    pub(super) host: String,
    /// Default 5432.
    pub(super) port: u16,
    /// Default `postgres`.
    pub(super) user: String,
    pub(super) password: Option<String>,
    /// Default: the user's name.
    pub(super) database: String,
    /// `schema`: where the tables are. Default `orkestra`.
    pub(super) schema: String,
    /// `pool`: connections besides the writer's, 1 to 1000. Default 4.
    pub(super) pool: usize,
    /// `pooler`: `session` or `transaction`.
    pub(super) pooler: Pooler,
    /// `listen`: host and port of the server itself, past the pooler.
    pub(super) listen: Option<(String, u16)>,
    /// `migrate=never`: the tables are there already.
    pub(super) migrate: bool,
    /// `application_name`. Default `orkestra`.
    pub(super) application_name: String,
    /// `connect_timeout` in seconds: one attempt, and how long a call waits for a database that is away. Default 10.
    pub(super) connect_timeout: Duration,
    /// `startup_wait` in seconds: how long the first connection is tried for. Default 0, once.
    pub(super) startup_wait: Duration,
    /// `statement_timeout` in seconds, 0 for none. Default 30.
    pub(super) statement_timeout: Duration,
    /// `lock_timeout` in seconds, 0 for none. Default 10.
    pub(super) lock_timeout: Duration,
    /// `poll_interval` in seconds: how often waiting readers look without having been told. Default 1.
    pub(super) poll_interval: Duration,
    /// `sslmode`.
    pub(super) sslmode: SslMode,
    /// `sslrootcert`: PEM certificates to trust instead of the system's.
    pub(super) sslrootcert: Option<PathBuf>,
    /// `sslcert`: PEM certificate of this client.
    pub(super) sslcert: Option<PathBuf>,
    /// `sslkey`: PEM key of this client.
    pub(super) sslkey: Option<PathBuf>,
}

impl fmt::Debug for PostgresConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place())
    }
}

impl PostgresConfig {
    /// The schema in which everything of ours is.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Reads `postgres[ql]://user:password@host:port/database?parameter=value`. Parts are percent-encoded where they have characters of the
    /// URL's own.
    ///
    /// # Errors
    /// Which part is wrong: what was expected and what was found, never the password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let parts = parts(url, &["postgres", "postgresql"])?;
        let (address, database) = (parts.address, parts.path.unwrap_or_default());
        let (user, password) = parts.login.unwrap_or_else(|| ("postgres".to_owned(), None));
        if address.contains(',') {
            return Err("host: expected one, found several".into());
        }
        if database.contains('/') {
            return Err(wrong("database", "one part after the host", database));
        }
        let mut config = Self {
            host: String::new(),
            port: PORT,
            database: match database {
                "" => user.clone(),
                database => decode("database", database)?,
            },
            user,
            password,
            schema: "orkestra".into(),
            pool: 4,
            pooler: Pooler::Session,
            listen: None,
            migrate: true,
            application_name: "orkestra".into(),
            connect_timeout: Duration::from_secs(10),
            startup_wait: Duration::ZERO,
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            poll_interval: Duration::from_secs(1),
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
        };
        let mut given_port = false;
        for (name, value) in parts.parameters {
            given_port |= name == "port";
            config.set(name, &value)?;
        }
        if !address.is_empty() || config.host.is_empty() {
            // The parameters are for a socket: there is no colon behind which its port could stand.
            if !config.host.is_empty() {
                return Err("host: expected once, found twice".into());
            }
            if given_port {
                return Err("port: expected behind the host, found as a parameter".into());
            }
            (config.host, config.port) = host_and_port(address, PORT)?;
        }
        config.check()?;
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "host" if value.starts_with('/') => {
                self.host = path(name, value)?.display().to_string();
            }
            "host" => return Err(wrong(name, "the folder of a socket", value)),
            "port" => self.port = number(name, value, 1, 65_535)?,
            "schema" => self.schema = schema(value)?,
            "pool" => self.pool = usize::from(number::<u16>(name, value, 1, 1000)?),
            "pooler" => {
                let words = [
                    ("session", Pooler::Session),
                    ("transaction", Pooler::Transaction),
                ];
                self.pooler = word(name, value, &words)?;
            }
            "listen" => {
                self.listen = Some(host_and_port(value, PORT).map_err(|e| format!("{name}: {e}"))?);
            }
            "migrate" => self.migrate = word(name, value, &[("auto", true), ("never", false)])?,
            "application_name" => self.application_name = text(name, value)?,
            "connect_timeout" => self.connect_timeout = seconds(name, value, 0.001)?,
            "startup_wait" => self.startup_wait = seconds(name, value, 0.0)?,
            "statement_timeout" => self.statement_timeout = seconds(name, value, 0.0)?,
            "lock_timeout" => self.lock_timeout = seconds(name, value, 0.0)?,
            "poll_interval" => self.poll_interval = seconds(name, value, 0.01)?,
            "sslmode" => {
                let words = [
                    ("disable", SslMode::Disable),
                    ("prefer", SslMode::Prefer),
                    ("require", SslMode::Require),
                    ("verify-ca", SslMode::VerifyCa),
                    ("verify-full", SslMode::VerifyFull),
                ];
                self.sslmode = word(name, value, &words)?;
            }
            "sslrootcert" => self.sslrootcert = Some(path(name, value)?),
            "sslcert" => self.sslcert = Some(path(name, value)?),
            "sslkey" => self.sslkey = Some(path(name, value)?),
            _ => return Err(unknown(name, PARAMETERS)),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.user.is_empty() || self.user.contains('\0') {
            return Err(wrong("user", "a name", &self.user));
        }
        if self.database.contains('\0') {
            return Err(wrong("database", "a name", &self.database));
        }
        if self.listen.is_some() && self.pooler == Pooler::Session {
            return Err("listen: expected pooler=transaction with it".into());
        }
        let given = [self.sslcert.is_some(), self.sslkey.is_some()];
        both(["sslcert", "sslkey"], given)?;
        let of_tls = [
            ("sslrootcert", self.sslrootcert.is_some()),
            ("sslcert", self.sslcert.is_some()),
        ];
        match of_tls.into_iter().find(|(_, given)| *given) {
            Some((name, _)) if self.sslmode == SslMode::Disable => {
                Err(format!("{name}: expected another sslmode than disable"))
            }
            _ => Ok(()),
        }
    }

    /// The same past the pooler, where `listen` says how to get there.
    pub(super) fn direct(&self) -> Option<Self> {
        let (host, port) = self.listen.clone()?;
        Some(Self {
            host,
            port,
            pooler: Pooler::Session,
            listen: None,
            ..self.clone()
        })
    }

    /// The database as messages name it.
    pub(super) fn place(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        format!(
            "postgres://{}@{host}:{}/{} (schema {})",
            self.user, self.port, self.database, self.schema
        )
    }
}

const PARAMETERS: &[&str] = &[
    "host",
    "port",
    "schema",
    "pool",
    "pooler",
    "listen",
    "migrate",
    "application_name",
    "connect_timeout",
    "startup_wait",
    "statement_timeout",
    "lock_timeout",
    "poll_interval",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
];

/// Words of SQL that name no schema without quotes. Source: PostgreSQL's table of key words, those that are reserved.
const RESERVED: &str = "all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column \
    concurrently constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp current_user \
    default deferrable desc distinct do else end except false fetch for foreign freeze from full grant group having ilike in initially inner \
    intersect into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null offset on only or order \
    outer overlaps placing primary references returning right select session_user similar some symmetric system_user table tablesample then \
    to trailing true union unique user using variadic verbose when where window with";

/// A name that needs no quotes in SQL.
fn schema(value: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = value.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !begins || !value.chars().all(plain) || value.len() > 48 || value.starts_with("pg_") {
        let rule = "1 to 48 of a-z, 0-9 and _, no digit and no pg_ in front";
        return Err(wrong("schema", rule, value));
    }
    if RESERVED.split_whitespace().any(|word| word == value) {
        return Err(wrong("schema", "a name that is no word of SQL", value));
    }
    Ok(value.to_owned())
}

fn text(name: &str, value: &str) -> Result<String, String> {
    if value.is_empty() || value.len() > 63 || value.chars().any(char::is_control) {
        return Err(wrong(name, "1 to 63 characters", value));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::adapters::shared::url::encode;

    #[test]
    fn what_is_left_out_has_defaults() {
        let config = PostgresConfig::parse("postgres://localhost/shop").unwrap();

        assert_eq!((config.host.as_str(), config.port), ("localhost", 5432));
        assert_eq!((config.user.as_str(), config.password), ("postgres", None));
        assert_eq!(config.database, "shop");
        assert_eq!(config.schema, "orkestra");
        assert_eq!(config.pool, 4);
        assert_eq!(config.sslmode, SslMode::Prefer);
        let config = PostgresConfig::parse("postgresql://ada@db.example").unwrap();
        assert_eq!(config.database, "ada");
    }

    #[test]
    fn every_part_is_read() {
        let config = PostgresConfig::parse(
            "postgres://us%40er:p%3Aw@[::1]:5499/my%2Fshop?schema=ork_2&pool=7&pooler=transaction&listen=db.example:5498&migrate=never\
             &application_name=my%20app&connect_timeout=0.5&startup_wait=60&statement_timeout=0&lock_timeout=2&poll_interval=0.1\
             &sslmode=verify-full&sslrootcert=/etc/ca.pem&sslcert=c.pem&sslkey=k.pem",
        )
        .unwrap();

        assert_eq!((config.host.as_str(), config.port), ("::1", 5499));
        assert_eq!(config.user, "us@er");
        assert_eq!(config.password.as_deref(), Some("p:w"));
        assert_eq!(config.database, "my/shop");
        assert_eq!(config.schema, "ork_2");
        assert_eq!((config.pool, config.pooler), (7, Pooler::Transaction));
        let direct = config.direct().unwrap();
        assert_eq!((direct.host.as_str(), direct.port), ("db.example", 5498));
        assert_eq!(direct.pooler, Pooler::Session);
        assert!(!config.migrate);
        assert_eq!(config.application_name, "my app");
        assert_eq!(config.startup_wait, Duration::from_secs(60));
        assert_eq!(config.statement_timeout, Duration::ZERO);
        assert_eq!(config.sslmode, SslMode::VerifyFull);
        assert_eq!(config.sslrootcert, Some("/etc/ca.pem".into()));
        assert_eq!(
            format!("{config:?}"),
            "postgres://us@er@[::1]:5499/my/shop (schema ork_2)"
        );
    }

    #[test]
    fn a_socket_is_named_by_its_folder() {
        let config =
            PostgresConfig::parse("postgres:///shop?host=/run/postgresql&port=5433").unwrap();

        assert_eq!(
            (config.host.as_str(), config.port),
            ("/run/postgresql", 5433)
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_passwords_are_not() {
        for (url, message) in [
            (
                "postgres:localhost",
                "expected postgres:// or postgresql://, found no //",
            ),
            (
                "postgres://",
                "host: expected a name or an address, found nothing",
            ),
            (
                "postgres://u:secret@/shop",
                "host: expected a name or an address, found nothing",
            ),
            (
                "postgres://u:secret@h:port/shop",
                "port: expected a whole number from 1 to 65535",
            ),
            (
                "postgres://u:sec/ret@h/shop",
                "expected no @ behind the host; write / ? and @ in other parts as %2F, %3F and %40",
            ),
            (
                "postgres://u:secret",
                "port: expected a whole number from 1 to 65535",
            ),
            (
                "postgres://u:%zz@h/shop",
                "password: expected percent-encoded UTF-8 text",
            ),
            ("postgres://a,b/shop", "host: expected one, found several"),
            (
                "postgres://h/shop?schema=Orkestra",
                "schema: expected 1 to 48 of a-z, 0-9 and _, no digit and no pg_ in front, found Orkestra",
            ),
            (
                "postgres://h/shop?pool=0",
                "pool: expected a whole number from 1 to 1000, found 0",
            ),
            (
                "postgres://h/shop?sslmode=on",
                "sslmode: expected disable, prefer, require, verify-ca or verify-full, found on",
            ),
            (
                "postgres://h/shop?sslcert=a",
                "expected both of sslcert and sslkey, found one",
            ),
            (
                "postgres://h/shop?schema=order",
                "schema: expected a name that is no word of SQL, found order",
            ),
            (
                "postgres://h/shop?port=5433",
                "port: expected behind the host, found as a parameter",
            ),
            (
                "postgres://h/shop?listen=db",
                "listen: expected pooler=transaction with it",
            ),
            (
                "postgres://h/shop?pooler=transaction&listen=db:x",
                "listen: port: expected a whole number from 1 to 65535",
            ),
            (
                "postgres://u:secret/2@h/shop",
                "expected no @ behind the host; write / ? and @ in other parts as %2F, %3F and %40",
            ),
            (
                "postgres://u:secret?2@h/shop",
                "expected no @ behind the host; write / ? and @ in other parts as %2F, %3F and %40",
            ),
            (
                "postgres://u:a@secret/2@h/shop",
                "expected no @ behind the host; write / ? and @ in other parts as %2F, %3F and %40",
            ),
            (
                "postgres://h/shop?pool=1&pool=2",
                "pool: expected once, found twice",
            ),
        ] {
            let error = PostgresConfig::parse(url).unwrap_err();
            assert_eq!(error, message, "{url}");
            assert!(!error.contains("secret"));
        }
        let error = PostgresConfig::parse("postgres://h/shop?sslmod=require").unwrap_err();
        assert!(error.ends_with("found sslmod"), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_from_outside_panics(url in "postgres(ql)?://\\PC{0,60}") {
            let _ = PostgresConfig::parse(&url);
        }

        #[test]
        fn what_is_encoded_comes_back(user in "\\PC{1,20}", password in "\\PC{0,20}", database in "\\PC{1,20}") {
            let [user_, password_, database_] = [&user, &password, &database].map(|part| encode(part));
            let config = PostgresConfig::parse(&format!("postgres://{user_}:{password_}@h/{database_}")).unwrap();
            prop_assert_eq!((config.user, config.password, config.database), (user, Some(password), database));
        }

        #[test]
        fn a_password_is_never_shown(begin in "\\PC{0,3}", end in "\\PC{0,3}", rest in "@h(:1)?(/[a-z]{0,3})?(\\?pool=3)?") {
            let url = format!("postgres://ann:{begin}hunter{end}{rest}");
            let shown = match PostgresConfig::parse(&url) {
                Ok(config) => format!("{config:?}"),
                Err(reason) => reason,
            };
            prop_assert!(!shown.contains("hunter"), "{url}: {shown}");
        }
    }
}
