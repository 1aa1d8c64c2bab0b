//! The URL of a broker: everything about it is in there, so that a URL is enough to reach it.

use std::{fmt, path::PathBuf, time::Duration};

use crate::adapters::shared::url::{
    both, decode, encode, host_and_port, number, parts, path, seconds, unknown, word, wrong,
};

/// What kind of queues handlers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum QueueType {
    /// Replicated; the default.
    #[default]
    Quorum,
    /// On one node.
    Classic,
}

impl QueueType {
    /// The word of `x-queue-type`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// Where the broker is and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct RabbitmqConfig {
    /// Host name or address; an IPv6 address without its brackets.
    pub(super) host: String,
    /// Default 5672, with TLS 5671.
    pub(super) port: u16,
    /// `amqps`.
    pub(super) tls: bool,
    /// Default `guest`.
    pub(super) user: String,
    /// Default `guest`.
    pub(super) password: String,
    /// Default `/`.
    pub(super) vhost: String,
    /// `queue_type`: `quorum` or `classic`.
    pub(super) queue_type: QueueType,
    /// `declare=passive`: only look whether exchanges and queues are there.
    pub(super) passive: bool,
    /// `prefetch`: messages in hand of a handler, 1 to 65535. Default 64.
    pub(super) prefetch: u16,
    /// `crash_limit`: deliveries that ended without an answer before a message is given up. Default 5.
    pub(super) crash_limit: u32,
    /// `heartbeat` in seconds, 0 for none. Default 30.
    pub(super) heartbeat: u16,
    /// `connect_timeout` in seconds. Default 10.
    pub(super) connect_timeout: Duration,
    /// `startup_wait` in seconds: how long the first connection is tried for. Default 0, once.
    pub(super) startup_wait: Duration,
    /// `publish_timeout` in seconds: how long a confirmation is waited for. Default 30.
    pub(super) publish_timeout: Duration,
    /// `cacertfile`: PEM certificates to trust instead of the system's.
    pub(super) cacertfile: Option<PathBuf>,
    /// `certfile`: PEM certificate of this client.
    pub(super) certfile: Option<PathBuf>,
    /// `keyfile`: PEM key of this client.
    pub(super) keyfile: Option<PathBuf>,
    /// `server_name`: the name that the server's certificate must have. Default: the host.
    pub(super) server_name: Option<String>,
}

impl fmt::Debug for RabbitmqConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        write!(
            f,
            "{scheme}://{}:***@{}:{}/{}",
            self.user,
            self.host,
            self.port,
            encode(&self.vhost)
        )
    }
}

impl RabbitmqConfig {
    /// Reads `amqp[s]://user:password@host:port/vhost?parameter=value`. Parts are percent-encoded where they have characters of the URL's own;
    /// the default virtual host is written `%2F` or left out.
    ///
    /// # Errors
    /// Which part is wrong: what was expected and what was found, never the password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let parts = parts(url, &["amqp", "amqps"])?;
        let tls = parts.scheme == "amqps";
        let (user, password) = match parts.login {
            None => ("guest".to_owned(), "guest".to_owned()),
            Some((user, password)) => (user, password.unwrap_or_default()),
        };
        let (host, port) = host_and_port(parts.address, if tls { 5671 } else { 5672 })?;
        let vhost = match parts.path {
            None | Some("") => "/".to_owned(),
            Some(path) if path.contains('/') => {
                return Err(format!(
                    "virtual host: expected one part after the host, found /{path}; write a / in it as %2F"
                ));
            }
            Some(path) => decode("virtual host", path)?,
        };
        let mut config = Self {
            host,
            port,
            tls,
            user,
            password,
            vhost,
            queue_type: QueueType::Quorum,
            passive: false,
            prefetch: 64,
            crash_limit: 5,
            heartbeat: 30,
            connect_timeout: Duration::from_secs(10),
            startup_wait: Duration::ZERO,
            publish_timeout: Duration::from_secs(30),
            cacertfile: None,
            certfile: None,
            keyfile: None,
            server_name: None,
        };
        for (name, value) in parts.parameters {
            config.set(name, &value)?;
        }
        config.check()?;
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "queue_type" => {
                let words = [
                    ("quorum", QueueType::Quorum),
                    ("classic", QueueType::Classic),
                ];
                self.queue_type = word(name, value, &words)?;
            }
            "declare" => {
                self.passive = word(name, value, &[("active", false), ("passive", true)])?;
            }
            "prefetch" => self.prefetch = number(name, value, 1, 65_535)?,
            "crash_limit" => self.crash_limit = number(name, value, 1, 1_000_000)?,
            "heartbeat" => self.heartbeat = number(name, value, 0, 3_600)?,
            "connect_timeout" => self.connect_timeout = seconds(name, value, 0.001)?,
            "startup_wait" => self.startup_wait = seconds(name, value, 0.0)?,
            "publish_timeout" => self.publish_timeout = seconds(name, value, 0.001)?,
            "cacertfile" => self.cacertfile = Some(path(name, value)?),
            "certfile" => self.certfile = Some(path(name, value)?),
            "keyfile" => self.keyfile = Some(path(name, value)?),
            "server_name" if !value.is_empty() => self.server_name = Some(value.to_owned()),
            "server_name" => return Err(wrong(name, "a name", "nothing")),
            _ => return Err(unknown(name, PARAMETERS)),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let given = [self.certfile.is_some(), self.keyfile.is_some()];
        both(["certfile", "keyfile"], given)?;
        let of_tls = [
            ("cacertfile", self.cacertfile.is_some()),
            ("certfile", self.certfile.is_some()),
            ("server_name", self.server_name.is_some()),
        ];
        match of_tls.into_iter().find(|(_, given)| *given && !self.tls) {
            Some((name, _)) => Err(format!("{name}: expected amqps, found amqp")),
            None => Ok(()),
        }
    }
}

const PARAMETERS: &[&str] = &[
    "queue_type",
    "declare",
    "prefetch",
    "crash_limit",
    "heartbeat",
    "connect_timeout",
    "startup_wait",
    "publish_timeout",
    "cacertfile",
    "certfile",
    "keyfile",
    "server_name",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_left_out_has_defaults() {
        let config = RabbitmqConfig::parse("amqp://localhost").unwrap();

        assert_eq!((config.host.as_str(), config.port), ("localhost", 5672));
        assert_eq!(
            (config.user.as_str(), config.password.as_str()),
            ("guest", "guest")
        );
        assert_eq!(config.vhost, "/");
        assert_eq!(config.queue_type, QueueType::Quorum);
        assert!(!config.passive && !config.tls);
        assert_eq!(
            RabbitmqConfig::parse("amqps://b.example/").unwrap().port,
            5671
        );
    }

    #[test]
    fn every_part_is_read() {
        let config = RabbitmqConfig::parse(
            "amqps://us%40er:p%3Aw@[::1]:5699/my%2Fhost?queue_type=classic&declare=passive&prefetch=7&crash_limit=3&heartbeat=0\
             &connect_timeout=0.5&startup_wait=60&publish_timeout=2&cacertfile=/etc/ca.pem&certfile=c.pem&keyfile=k.pem&server_name=rabbit",
        )
        .unwrap();

        assert_eq!((config.host.as_str(), config.port), ("::1", 5699));
        assert_eq!(
            (config.user.as_str(), config.password.as_str()),
            ("us@er", "p:w")
        );
        assert_eq!(config.vhost, "my/host");
        assert_eq!(config.queue_type, QueueType::Classic);
        assert!(config.passive && config.tls);
        assert_eq!(
            (config.prefetch, config.crash_limit, config.heartbeat),
            (7, 3, 0)
        );
        assert_eq!(config.connect_timeout, Duration::from_millis(500));
        assert_eq!(config.cacertfile, Some("/etc/ca.pem".into()));
        assert_eq!(config.server_name.as_deref(), Some("rabbit"));
        assert!(!format!("{config:?}").contains("p:w"));
    }

    #[test]
    fn what_is_wrong_is_named_and_passwords_are_not() {
        for (url, message) in [
            (
                "amqp:localhost",
                "expected amqp:// or amqps://, found no //",
            ),
            (
                "amqp://",
                "host: expected a name or an address, found nothing",
            ),
            (
                "amqp://u:secret@",
                "host: expected a name or an address, found nothing",
            ),
            (
                "amqp://localhost:port",
                "port: expected a whole number from 1 to 65535",
            ),
            (
                "amqp://localhost:0",
                "port: expected a whole number from 1 to 65535, found 0",
            ),
            (
                "amqp://local host",
                "host: expected a name or an address, found the character  ",
            ),
            (
                "amqp://h/a/b",
                "virtual host: expected one part after the host, found /a/b; write a / in it as %2F",
            ),
            (
                "amqp://u:%zz@h",
                "password: expected percent-encoded UTF-8 text",
            ),
            (
                "amqp://h?queue_typo=classic",
                "expected one of the parameters queue_type, declare, prefetch, crash_limit, heartbeat, connect_timeout, startup_wait, \
                 publish_timeout, cacertfile, certfile, keyfile, server_name, found queue_typo",
            ),
            (
                "amqp://h?queue_type=mirrored",
                "queue_type: expected quorum or classic, found mirrored",
            ),
            (
                "amqp://h?prefetch=1&prefetch=2",
                "prefetch: expected once, found twice",
            ),
            (
                "amqp://h?prefetch",
                "prefetch: expected a value after =, found none",
            ),
            (
                "amqp://h?publish_timeout=NaN",
                "publish_timeout: expected seconds from 0.001 to 86400, found NaN",
            ),
            (
                "amqps://h?certfile=a.pem",
                "expected both of certfile and keyfile, found one",
            ),
            (
                "amqp://h?cacertfile=a.pem",
                "cacertfile: expected amqps, found amqp",
            ),
            (
                "amqp://u:secret/2@h",
                "expected no @ behind the host; write / ? and @ in other parts as %2F, %3F and %40",
            ),
            (
                "amqp://u:secret?2@h",
                "expected no @ behind the host; write / ? and @ in other parts as %2F, %3F and %40",
            ),
            (
                "amqp://[::1",
                "host: expected a ] after the address, found [::1",
            ),
        ] {
            assert_eq!(RabbitmqConfig::parse(url).unwrap_err(), message, "{url}");
        }
    }

    proptest! {
        #[test]
        fn nothing_from_outside_panics(url in "amqps?://\\PC{0,60}") {
            let _ = RabbitmqConfig::parse(&url);
        }

        #[test]
        fn a_password_is_never_shown(begin in "\\PC{0,3}", end in "\\PC{0,3}", rest in "@h(:1)?(/[a-z]{0,3})?(\\?prefetch=3)?") {
            let url = format!("amqp://ann:{begin}hunter{end}{rest}");
            let shown = match RabbitmqConfig::parse(&url) {
                Ok(config) => format!("{config:?}"),
                Err(reason) => reason,
            };
            prop_assert!(!shown.contains("hunter"), "{url}: {shown}");
        }

        #[test]
        fn what_is_encoded_comes_back(user in "\\PC{1,20}", password in "\\PC{0,20}", vhost in "\\PC{1,20}") {
            let url = format!("amqp://{}:{}@h/{}", encode(&user), encode(&password), encode(&vhost));
            let config = RabbitmqConfig::parse(&url).unwrap();
            prop_assert_eq!((config.user, config.password, config.vhost), (user, password, vhost));
        }
    }
}
