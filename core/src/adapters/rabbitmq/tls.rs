//! Encryption of the connection.

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};

use super::RabbitmqConfig;
use crate::adapters::shared::pem::{certificates, private_key};

/// What makes TLS connections as `config` wants them: trusting the certificates of `cacertfile`, else the system's.
///
/// # Errors
/// Which file cannot be read, and why.
pub(super) fn connector(config: &RabbitmqConfig) -> Result<RustlsConnector, String> {
    // Another crate in the process may have brought a second provider, and rustls does not choose. An earlier choice stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let trusted = match &config.cacertfile {
        Some(path) => {
            RustlsConnectorConfig::default().with_parsable_certificates(certificates(path)?)
        }
        None => RustlsConnectorConfig::new_with_platform_verifier(),
    };
    match (&config.certfile, &config.keyfile) {
        (Some(certificate), Some(key)) => trusted
            .connector_with_single_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| format!("{}: {error}", certificate.display())),
        _ => trusted
            .connector_with_no_client_auth()
            .map_err(|error| error.to_string()),
    }
}
