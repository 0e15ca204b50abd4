//! The server side of TLS, with a certificate that is worth nothing outside of tests.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What signed the certificate of the server.
pub(super) const AUTHORITY: &str = include_str!("../../tests/data/tls/authority.pem");
const CERTIFICATE: &str = include_str!("../../tests/data/tls/server.pem");
const KEY: &str = include_str!("../../tests/data/tls/server-key.pem");

/// Speaks TLS on a connection.
pub(super) fn accept(
    connection: TcpStream,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(CERTIFICATE.as_bytes()).collect();
    let certificates = certificates.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(certificates, key)
        })
        .map_err(io::Error::other)?;
    let session = ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
    Ok(StreamOwned::new(session, connection))
}
