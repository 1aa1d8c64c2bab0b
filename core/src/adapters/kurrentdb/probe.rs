//! Finding out why there is no connection: the client does not say.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

use super::config::KurrentdbConfig;
use crate::adapters::shared::pem::{certificates, private_key};

/// What stands between us and a node.
#[derive(Debug)]
pub(super) enum Reason {
    /// Its certificate is not to be trusted.
    Untrusted(String),
    /// Everything else.
    Away(String),
}

/// Looks at the first node that cannot be connected to. Blocks, `patience` at most for each step.
pub(super) fn why(config: &KurrentdbConfig, patience: Duration) -> Reason {
    let mut last = Reason::Away("it does not speak KurrentDB's protocol".into());
    for host in &config.hosts {
        if let Err(reason) = connect(config, host, patience) {
            if matches!(reason, Reason::Untrusted(_)) {
                return reason;
            }
            last = reason;
        }
    }
    last
}

fn connect(
    config: &KurrentdbConfig,
    (host, port): &(String, u16),
    patience: Duration,
) -> Result<(), Reason> {
    let away = |error: io::Error| Reason::Away(error.to_string());
    let addresses = (host.as_str(), *port)
        .to_socket_addrs()
        .map_err(|error| Reason::Away(format!("host {host} is unknown: {error}")))?;
    let mut stream = Err(io::Error::other("it has no address"));
    for address in addresses {
        stream = TcpStream::connect_timeout(&address, patience);
        if stream.is_ok() {
            break;
        }
    }
    let mut stream = stream.map_err(away)?;
    if !config.tls || !config.verify {
        return Ok(());
    }
    stream.set_read_timeout(Some(patience)).map_err(away)?;
    stream.set_write_timeout(Some(patience)).map_err(away)?;
    let tls = tls(config).map_err(Reason::Away)?;
    let name = ServerName::try_from(host.clone()).map_err(|error| {
        Reason::Untrusted(format!("{host} can be no certificate's name: {error}"))
    })?;
    let mut handshake = ClientConnection::new(Arc::new(tls), name)
        .map_err(|error| Reason::Away(error.to_string()))?;
    while handshake.is_handshaking() {
        handshake
            .complete_io(&mut stream)
            .map_err(|error| tls_reason(&error))?;
    }
    Ok(())
}

fn tls_reason(error: &io::Error) -> Reason {
    let tls = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(reason)) => Reason::Untrusted(reason.to_string()),
        Some(other) => Reason::Away(format!("TLS failed: {other}")),
        None => Reason::Away(format!("TLS failed: {error}")),
    }
}

fn tls(config: &KurrentdbConfig) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.ca_file {
        for certificate in certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("{}: {error}", path.display()))?;
        }
    } else {
        let system = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(system.certs);
        if added == 0 {
            return Err("the system has no certificates to trust: name them with tlsCaFile".into());
        }
    }
    let tls = ClientConfig::builder().with_root_certificates(roots);
    let tls = match &config.user_certificate {
        Some((certificate, key)) => tls
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| format!("{}: {error}", certificate.display()))?,
        None => tls.with_no_client_auth(),
    };
    Ok(tls)
}

/// Whether the files that the URL names can be used; the client would give up the process's thread over some that cannot.
///
/// # Errors
/// The file, and what is wrong with it.
pub(super) fn check_files(config: &KurrentdbConfig) -> Result<(), (String, String)> {
    let named = |path: &Path, reason: String| (path.display().to_string(), reason);
    if let Some(path) = &config.ca_file {
        certificates(path).map_err(|reason| named(path, reason))?;
    }
    if let Some((certificate, key)) = &config.user_certificate {
        certificates(certificate).map_err(|reason| named(certificate, reason))?;
        private_key(key).map_err(|reason| named(key, reason))?;
    }
    Ok(())
}
