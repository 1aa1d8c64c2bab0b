//! Encryption of the connection.

use std::{fs, path::Path};

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::RabbitmqConfig;

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

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{}: it has no certificate", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|error| format!("{}: it has no private key ({error})", path.display()))
}
