//! TLS towards servers, as libpq's `sslmode` has it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::UrlError;

/// How TLS is used. As in libpq, `require` encrypts without checking who answers, unless `sslrootcert` is given; only `verify-ca`
/// and `verify-full` do always, against `sslrootcert` or the system's roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never; the default over loopback and unix sockets.
    Disable,
    /// When the server offers it, without checking its certificate; the default elsewhere.
    Prefer,
    /// Always, without checking the certificate.
    Require,
    /// Always, and the certificate must come from a trusted authority, for whatever name it was issued.
    VerifyCa {
        /// Trusted roots in PEM; the system's when absent.
        roots: Option<PathBuf>,
    },
    /// Always, and the certificate must be valid for the host.
    VerifyFull {
        /// Trusted roots in PEM; the system's when absent.
        roots: Option<PathBuf>,
    },
}

/// What the TLS of a mode checks.
pub(crate) fn client_config(tls: &Tls) -> Result<ClientConfig, UrlError> {
    let refuse =
        |error: &dyn std::fmt::Display| UrlError::new(format!("TLS cannot be set up: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(&error))?;
    let trusting = |roots: &Option<PathBuf>| {
        let roots = Arc::new(trusted(roots.as_deref())?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| refuse(&error))
    };
    let verifier: Arc<dyn ServerCertVerifier> = match tls {
        Tls::VerifyFull { roots } => trusting(roots)?,
        Tls::VerifyCa { roots } => Arc::new(Lenient {
            authorities: Some(trusting(roots)?),
            provider,
        }),
        Tls::Disable | Tls::Prefer | Tls::Require => Arc::new(Lenient {
            authorities: None,
            provider,
        }),
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn trusted(roots: Option<&Path>) -> Result<RootCertStore, UrlError> {
    let mut store = RootCertStore::empty();
    let certificates = match roots {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| {
                UrlError::new(format!(
                    "sslrootcert {} cannot be read: {error}",
                    path.display()
                ))
            })?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        return Err(UrlError::new(
            "there are no trusted certificates to verify the server with; name a PEM file with sslrootcert",
        ));
    }
    Ok(store)
}

/// Asks less than everything: who signed the certificate but not for which name (`verify-ca`), or nothing at all (what libpq
/// does for `prefer` and `require`).
#[derive(Debug)]
struct Lenient {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        // The name comes last: with this error everything else was in order.
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
