//! What rustls needs beside a stream: certificates for `localhost`, and a proper end.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ConnectionCommon, RootCertStore, ServerConfig};

use crate::scratch::Scratch;

/// A server's certificate with its key, and the authority that has signed it, which clients trust.
#[derive(Debug)]
pub struct Identity {
    authority: rcgen::Certificate,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// Where programs find them.
#[derive(Debug)]
pub struct Files {
    /// The certificate of the authority.
    pub authority: PathBuf,
    /// The certificate of the server.
    pub certificate: PathBuf,
    /// The key of the server.
    pub key: PathBuf,
}

impl Identity {
    /// Makes new keys.
    ///
    /// # Panics
    ///
    /// There is no source of randomness.
    pub fn new() -> Self {
        Self::generate().expect("certificates")
    }

    fn generate() -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.distinguished_name.push(DnType::CommonName, "bine's tests");
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;

        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        server.use_authority_key_identifier_extension = true;
        let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok(Self { authority: authority_certificate, certificate, key })
    }

    /// A server that shows the certificate.
    ///
    /// # Panics
    ///
    /// rustls does not take the certificate.
    pub fn server(&self) -> Arc<ServerConfig> {
        let chain: Vec<CertificateDer<'_>> = vec![self.certificate.der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        Arc::new(config.expect("the certificate fits"))
    }

    /// A client that trusts the authority, and nobody else.
    ///
    /// # Panics
    ///
    /// rustls does not take the certificate.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("the certificate is one of an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are ciphers");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// Writes all to files, for programs that are no clients of rustls.
    ///
    /// # Panics
    ///
    /// They cannot be written.
    pub fn write(&self, scratch: &Scratch) -> Files {
        let write = |name: &str, text: String| {
            let path = scratch.path(name);
            fs::write(&path, text).expect("the scratch directory takes files");
            path
        };
        Files {
            authority: write("authority.pem", self.authority.pem()),
            certificate: write("certificate.pem", self.certificate.pem()),
            key: write("key.pem", self.key.serialize_pem()),
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells the peer that there is no more, as TLS wants it: else the peer must take the end for an attack.
/// Dropping the connection does not.
///
/// # Errors
///
/// Those of the stream.
pub fn finish<D>(connection: &mut ConnectionCommon<D>, mut stream: impl Write) -> io::Result<()> {
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(&mut stream)?;
    }
    Ok(())
}
