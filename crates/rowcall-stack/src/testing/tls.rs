//! A server with TLS, whatever programs it has: the builds that come from package registries may lack it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// What a client asks first when it wants TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// What PostgreSQL says to others where `pg_hba.conf` has only `hostssl` lines.
const REFUSAL: &[u8] = b"SFATAL\0C28000\0Mno pg_hba.conf entry for this host, no encryption\0\0";

/// A port that speaks TLS and passes on to the test server what comes in. Ends with the runtime it was made on.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    counts: Arc<Counts>,
    roots: TempDir,
}

#[derive(Debug, Default)]
struct Counts {
    encrypted: AtomicUsize,
    plain: AtomicUsize,
}

impl TlsFront {
    /// A front before a port of this machine that refuses plain connections. Its certificate is for `name`, signed by an
    /// authority that exists for this value only.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub async fn before(port: u16, name: &str) -> Self {
        let (acceptor, authority) = identity(name);
        let roots = tempfile::tempdir().expect("a directory");
        std::fs::write(roots.path().join("ca.pem"), authority).expect("write a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let counts = Arc::new(Counts::default());
        let this = Self {
            port: listener.local_addr().expect("its address").port(),
            counts: Arc::clone(&counts),
            roots,
        };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counts));
                tokio::spawn(async move {
                    // Who goes away, or is refused, has its reasons.
                    drop(serve(near, port, &acceptor, &counts).await);
                });
            }
        });
        this
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of its authority, in PEM.
    pub fn roots(&self) -> PathBuf {
        self.roots.path().join("ca.pem")
    }

    /// `url` with this port in place of the server's, the host called `localhost`, and `settings` as its query.
    ///
    /// # Panics
    ///
    /// When it is no URL with a port.
    pub fn url(&self, url: &str, settings: &str) -> String {
        let mut url = url::Url::parse(url).expect("a URL");
        url.set_host(Some("localhost")).expect("a name");
        url.set_port(Some(self.port)).expect("a port");
        url.set_query(Some(settings));
        url.into()
    }

    /// How many connections were encrypted.
    pub fn encrypted(&self) -> usize {
        self.counts.encrypted.load(Ordering::Relaxed)
    }

    /// How many connections came without TLS, and were refused.
    pub fn refused(&self) -> usize {
        self.counts.plain.load(Ordering::Relaxed)
    }
}

/// A certificate for `name`, and that of its authority in PEM.
fn identity(name: &str) -> (TlsAcceptor, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    let authority_name = format!("authority of {name}");
    authority
        .distinguished_name
        .push(DnType::CommonName, authority_name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority
        .self_signed(&authority_key)
        .expect("a certificate");
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a key that fits its certificate");
    (TlsAcceptor::from(Arc::new(config)), root.pem())
}

async fn serve(
    mut near: TcpStream,
    port: u16,
    acceptor: &TlsAcceptor,
    counts: &Counts,
) -> std::io::Result<()> {
    let mut first = [0; SSL_REQUEST.len()];
    near.read_exact(&mut first).await?;
    if first != SSL_REQUEST {
        counts.plain.fetch_add(1, Ordering::Relaxed);
        let length = u32::try_from(REFUSAL.len() + 4).expect("a few bytes");
        near.write_u8(b'E').await?;
        near.write_u32(length).await?;
        near.write_all(REFUSAL).await?;
        near.shutdown().await?;
        // To the end: closing with something unread would take the answer back.
        return tokio::io::copy(&mut near, &mut tokio::io::sink())
            .await
            .map(drop);
    }
    near.write_all(b"S").await?;
    let mut near = acceptor.accept(near).await?;
    counts.encrypted.fetch_add(1, Ordering::Relaxed);
    let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}
