//! The URL of a server or a cluster: everything about it is in there, so that a URL is enough to reach it.

use std::{collections::HashSet, fmt, fmt::Write, path::PathBuf, time::Duration};

use crate::adapters::shared::url::{
    decode, encode, host_and_port, number, path, seconds, shorten, split, wrong,
};

/// The port of a node that names none.
const PORT: u16 = 2113;

/// Where the server is and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct KurrentdbConfig {
    /// `kurrentdb+discover`: the host is a name of the whole cluster.
    discover: bool,
    /// Hosts and ports, in order.
    pub(super) hosts: Vec<(String, u16)>,
    /// User and password.
    pub(super) login: Option<(String, String)>,
    /// `tls`, default true.
    pub(super) tls: bool,
    /// `tlsVerifyCert`, default true.
    pub(super) verify: bool,
    /// `tlsCaFile`: PEM certificates to trust instead of the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// `userCertFile` and `userKeyFile`.
    pub(super) user_certificate: Option<(PathBuf, PathBuf)>,
    /// What is left for the client, by the names that it knows.
    client: Vec<(&'static str, String)>,
    /// `defaultDeadline` in milliseconds. Default 10,000.
    pub(super) deadline: Duration,
    /// `startup_wait` in seconds: how long the first connection is tried for. Default 0, once.
    pub(super) startup_wait: Duration,
    /// `poll_interval` in seconds: how often is looked for events that no subscription told of. Default 1.
    pub(super) poll_interval: Duration,
    /// `repeat_window`: among how many of a stream's last events an id is looked for. Default 1,000.
    pub(super) repeat_window: usize,
}

impl fmt::Debug for KurrentdbConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match &self.login {
            Some((user, _)) => format!("{user}:***@"),
            None => String::new(),
        };
        write!(f, "{}://{login}{}", self.scheme(), self.place())
    }
}

/// Parameters that the client reads, with what each of them takes.
const CLIENT: &[(&str, Takes)] = &[
    // The client's first attempt only chooses a node.
    ("maxDiscoverAttempts", Takes::Number(2, 1_000_000)),
    ("discoveryInterval", Takes::Number(1, 86_400_000)),
    ("gossipTimeout", Takes::Number(1, 86_400_000)),
    ("keepAliveInterval", Takes::KeepAlive),
    ("keepAliveTimeout", Takes::KeepAlive),
    (
        "nodePreference",
        Takes::Word(&["leader", "follower", "random", "readOnlyReplica"]),
    ),
    ("connectionName", Takes::Text),
];

/// The others, which are read here.
const OURS: &[&str] = &[
    "tls",
    "tlsVerifyCert",
    "tlsCaFile",
    "userCertFile",
    "userKeyFile",
    "defaultDeadline",
    "startup_wait",
    "poll_interval",
    "repeat_window",
];

#[derive(Clone, Copy)]
enum Takes {
    Number(u32, u32),
    KeepAlive,
    Word(&'static [&'static str]),
    Text,
}

impl KurrentdbConfig {
    /// Reads `kurrentdb://user:password@host:port,host:port?parameter=value`, or the same with `esdb`, `kurrentdb+discover` or `esdb+discover`.
    /// Parts are percent-encoded where they have characters of the URL's own; names of the client's own parameters are read whatever their case.
    ///
    /// # Errors
    /// Which part is wrong: what was expected and what was found, never the password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let schemes = "kurrentdb://, kurrentdb+discover://, esdb:// or esdb+discover://";
        let (discover, rest) = match url.split_once("://") {
            Some(("kurrentdb" | "esdb", rest)) => (false, rest),
            Some(("kurrentdb+discover" | "esdb+discover", rest)) => (true, rest),
            _ => return Err(format!("expected {schemes}")),
        };
        if url.contains('#') {
            return Err("expected no #; write it as %23".into());
        }
        let (authority, after, query) = split(rest)?;
        if let Some(after) = after.filter(|after| !after.is_empty()) {
            return Err(wrong("path", "nothing after the host", after));
        }
        let (login, addresses) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((login, addresses)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let user = decode("user", user)?;
                if user.is_empty() || user.contains(':') {
                    return Err("user: expected a name without a colon".into());
                }
                (Some((user, decode("password", password)?)), addresses)
            }
        };
        let hosts = addresses
            .split(',')
            .map(|address| host_and_port(address, PORT))
            .collect::<Result<Vec<_>, _>>()?;
        if discover && hosts.len() > 1 {
            return Err("host: expected one name with +discover, found several".into());
        }
        let mut config = Self {
            discover,
            hosts,
            login,
            tls: true,
            verify: true,
            ca_file: None,
            user_certificate: None,
            client: Vec::new(),
            deadline: Duration::from_secs(10),
            startup_wait: Duration::ZERO,
            poll_interval: Duration::from_secs(1),
            repeat_window: 1_000,
        };
        config.read(query)?;
        Ok(config)
    }

    fn read(&mut self, query: &str) -> Result<(), String> {
        let mut seen = HashSet::new();
        let (mut certificate, mut key) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (given, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong(pair, "a value after =", "none"))?;
            let name = known(given)?;
            if !seen.insert(name) {
                return Err(format!("{name}: expected once, found twice"));
            }
            let value = decode(name, value)?;
            match name {
                "tls" => self.tls = flag(name, &value)?,
                "tlsVerifyCert" => self.verify = flag(name, &value)?,
                "tlsCaFile" => self.ca_file = Some(path(name, &value)?),
                "userCertFile" => certificate = Some(path(name, &value)?),
                "userKeyFile" => key = Some(path(name, &value)?),
                "defaultDeadline" => {
                    let millis: u32 = number(name, &value, 1, 86_400_000)?;
                    self.deadline = Duration::from_millis(millis.into());
                }
                "startup_wait" => self.startup_wait = seconds(name, &value, 0.0)?,
                "poll_interval" => self.poll_interval = seconds(name, &value, 0.01)?,
                "repeat_window" => {
                    let events: u32 = number(name, &value, 1, 100_000)?;
                    self.repeat_window = events as usize;
                }
                name => {
                    check(name, &value)?;
                    self.client.push((name, value));
                }
            }
        }
        self.user_certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("expected both of userCertFile and userKeyFile, found one".into()),
        };
        let of_tls = [
            ("tlsCaFile", self.ca_file.is_some()),
            ("userCertFile", self.user_certificate.is_some()),
            ("tlsVerifyCert", seen.contains("tlsVerifyCert")),
        ];
        match of_tls.into_iter().find(|(_, given)| *given && !self.tls) {
            Some((name, _)) => Err(format!("{name}: expected TLS, found tls=false")),
            None => Ok(()),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.discover {
            "kurrentdb+discover"
        } else {
            "kurrentdb"
        }
    }

    /// The hosts with their ports.
    pub(super) fn place(&self) -> String {
        let places: Vec<_> = self.hosts.iter().map(at).collect();
        places.join(",")
    }

    /// Whether there may be several nodes.
    pub(super) fn is_cluster(&self) -> bool {
        self.discover || self.hosts.len() > 1
    }

    /// The connection string of the client: every port named, as it misreads lists where only some are, and the login left out where it has
    /// characters to encode, as the client would not decode them. It is sent with every call anyway, and what only the client asks for (gossip)
    /// needs none by default.
    pub(super) fn connection_string(&self) -> String {
        let login = match &self.login {
            Some((user, password)) if encode(user) == *user && encode(password) == *password => {
                format!("{user}:{password}@")
            }
            _ => String::new(),
        };
        let mut url = format!(
            "{}://{login}{}?tls={}&tlsVerifyCert={}&defaultDeadline={}",
            self.scheme(),
            self.place(),
            self.tls,
            self.verify,
            self.deadline.as_millis()
        );
        for (name, value) in [
            // What was written is to be read: a follower may lag behind.
            ("nodePreference", "leader"),
            // The client waits so long before each attempt, the first one too; its own default is 500.
            ("discoveryInterval", "50"),
            ("maxDiscoverAttempts", "20"),
        ] {
            if !self.client.iter().any(|(given, _)| *given == name) {
                // Writing to a string cannot fail.
                let _ = write!(url, "&{name}={value}");
            }
        }
        let mut add = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(url, "&{name}={}", encode(value));
        };
        if let Some(file) = &self.ca_file {
            add("tlsCaFile", &file.to_string_lossy());
        }
        if let Some((certificate, key)) = &self.user_certificate {
            add("userCertFile", &certificate.to_string_lossy());
            add("userKeyFile", &key.to_string_lossy());
        }
        for (name, value) in &self.client {
            add(name, value);
        }
        url
    }
}

/// Host and port of a node.
pub(super) fn at((host, port): &(String, u16)) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The parameter's name as it is written here.
fn known(given: &str) -> Result<&'static str, String> {
    let names = || {
        let client = CLIENT.iter().map(|(name, _)| *name);
        client.chain(OURS.iter().copied())
    };
    names()
        .find(|name| name.eq_ignore_ascii_case(given))
        .ok_or_else(|| {
            let names: Vec<_> = names().collect();
            format!(
                "expected one of the parameters {}, found {}",
                names.join(", "),
                shorten(given)
            )
        })
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| wrong(name, "true or false", value))
}

fn check(name: &str, value: &str) -> Result<(), String> {
    let takes = CLIENT.iter().find(|(n, _)| *n == name).map(|(_, t)| *t);
    match takes {
        Some(Takes::Number(min, max)) => number::<u32>(name, value, min, max).map(drop),
        // The client passes over shorter ones with a warning.
        Some(Takes::KeepAlive) if value == "-1" => Ok(()),
        Some(Takes::KeepAlive) => number::<u32>(name, value, 10_000, 86_400_000)
            .map(drop)
            .map_err(|reason| format!("{reason} (or -1 for none)")),
        Some(Takes::Word(words)) if words.iter().any(|w| w.eq_ignore_ascii_case(value)) => Ok(()),
        Some(Takes::Word(words)) => Err(wrong(name, &words.join(", "), value)),
        // It becomes a header.
        Some(Takes::Text) if value.bytes().all(|b| (b' '..=b'~').contains(&b)) => Ok(()),
        Some(Takes::Text) | None => Err(wrong(name, "printable ASCII text", value)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(url: &str) -> kurrentdb::ClientSettings {
        KurrentdbConfig::parse(url)
            .unwrap()
            .connection_string()
            .parse()
            .unwrap()
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let config = KurrentdbConfig::parse("esdb://localhost").unwrap();

        assert_eq!(config.hosts, [("localhost".to_owned(), 2113)]);
        assert!(config.tls && config.verify && config.login.is_none());
        assert_eq!(config.deadline, Duration::from_secs(10));
        assert_eq!(config.repeat_window, 1000);
        let settings = client("esdb://localhost");
        assert_eq!(
            settings.node_preference(),
            kurrentdb::NodePreference::Leader
        );
        assert!(settings.is_secure_mode_enabled());
    }

    #[test]
    fn every_part_is_read() {
        let config = KurrentdbConfig::parse(
            "kurrentdb://us%40er:p%3Aw@[::1]:99?tls=true&tlsverifycert=false&tlsCaFile=/ca.pem&userCertFile=c.pem&userKeyFile=k.pem\
             &defaultDeadline=500&startup_wait=60&poll_interval=0.1&repeat_window=7&nodePreference=FOLLOWER&connectionName=a,b",
        )
        .unwrap();

        assert_eq!(config.login, Some(("us@er".into(), "p:w".into())));
        assert_eq!(config.place(), "[::1]:99");
        assert!(config.tls && !config.verify);
        assert_eq!(config.deadline, Duration::from_millis(500));
        assert_eq!(config.repeat_window, 7);
        assert_eq!(format!("{config:?}"), "kurrentdb://us@er:***@[::1]:99");
        let settings: kurrentdb::ClientSettings = config.connection_string().parse().unwrap();
        assert_eq!(
            settings.node_preference(),
            kurrentdb::NodePreference::Follower
        );
        assert_eq!(settings.tls_ca_file(), Some(&"/ca.pem".to_owned()));
        assert!(
            settings.default_authenticated_user().is_none(),
            "the client would not decode it"
        );
    }

    #[test]
    fn every_host_keeps_its_port() {
        for url in [
            "kurrentdb://u:p@a,b:2,c",
            "kurrentdb://u:p@a:2113,b:2,c:2113",
        ] {
            let settings = client(url);
            let hosts: Vec<_> = settings
                .hosts()
                .iter()
                .map(|h| (h.host.as_str(), h.port))
                .collect();
            assert_eq!(hosts, [("a", 2113), ("b", 2), ("c", 2113)], "{url}");
            assert!(settings.default_authenticated_user().is_some());
        }
        assert!(client("esdb+discover://cluster.example").is_dns_discovery_enabled());
    }

    #[test]
    fn what_is_wrong_is_named_and_passwords_are_not() {
        for (url, message) in [
            (
                "kurrentdb:localhost",
                "expected kurrentdb://, kurrentdb+discover://, esdb:// or esdb+discover://",
            ),
            (
                "esdb://",
                "host: expected a name or an address, found nothing",
            ),
            (
                "esdb://u:secret@",
                "host: expected a name or an address, found nothing",
            ),
            ("esdb://:secret@h", "user: expected a name without a colon"),
            (
                "esdb://u:%zz@h",
                "password: expected percent-encoded UTF-8 text",
            ),
            (
                "esdb://h:0",
                "port: expected a whole number from 1 to 65535, found 0",
            ),
            (
                "esdb://h/db",
                "path: expected nothing after the host, found db",
            ),
            (
                "esdb+discover://a,b",
                "host: expected one name with +discover, found several",
            ),
            ("esdb://h?tls=yes", "tls: expected true or false, found yes"),
            (
                "esdb://h?tls=false&tlsCaFile=a.pem",
                "tlsCaFile: expected TLS, found tls=false",
            ),
            (
                "esdb://h?userCertFile=a.pem",
                "expected both of userCertFile and userKeyFile, found one",
            ),
            (
                "esdb://h?tls=false&TLS=false",
                "tls: expected once, found twice",
            ),
            (
                "esdb://h?keepAliveInterval=5",
                "keepAliveInterval: expected a whole number from 10000 to 86400000, found 5 (or -1 for none)",
            ),
            (
                "esdb://h?nodePreference=best",
                "nodePreference: expected leader, follower, random, readOnlyReplica, found best",
            ),
            (
                "esdb://h?connectionName=%0A",
                "connectionName: expected printable ASCII text, found \u{fffd}",
            ),
            (
                "esdb://h?tsl=true",
                "expected one of the parameters maxDiscoverAttempts, discoveryInterval, gossipTimeout, keepAliveInterval, keepAliveTimeout, \
                 nodePreference, connectionName, tls, tlsVerifyCert, tlsCaFile, userCertFile, userKeyFile, defaultDeadline, startup_wait, \
                 poll_interval, repeat_window, found tsl",
            ),
        ] {
            assert_eq!(KurrentdbConfig::parse(url).unwrap_err(), message, "{url}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_accepted_by_the_client_too(url in "(kurrentdb|esdb)(\\+discover)?://[a-z0-9@:,.%\\[\\]]{0,30}(\\?(tls|connectionName|gossipTimeout|tlsCaFile)=\\PC{0,10})?") {
            if let Ok(config) = KurrentdbConfig::parse(&url) {
                let settings: Result<kurrentdb::ClientSettings, _> = config.connection_string().parse();
                prop_assert!(settings.is_ok(), "{:?}", settings);
            }
        }

        #[test]
        fn nothing_from_outside_panics(url in "(kurrentdb|esdb)://\\PC{0,60}") {
            let _ = KurrentdbConfig::parse(&url);
        }

        #[test]
        fn a_password_is_never_shown(begin in "\\PC{0,3}", end in "\\PC{0,3}", rest in "@h(:1)?/?(\\?tls=false)?") {
            let url = format!("kurrentdb://ann:{begin}hunter{end}{rest}");
            let shown = match KurrentdbConfig::parse(&url) {
                Ok(config) => format!("{config:?}"),
                Err(reason) => reason,
            };
            prop_assert!(!shown.contains("hunter"), "{url}: {shown}");
        }
    }
}
