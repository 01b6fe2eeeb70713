//! The listener's certificate, replaceable while it serves.

use std::{fmt, io, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier},
    server::TlsStream,
};

use super::TlsSettings;
use crate::{file, units::Size};

/// Largest file of certificates or of a key.
const FILE_BYTES_MAX: Size = Size::mib(1);

/// Certificate, key and client authorities. Clones share what [`Tls::replace`] puts in.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

/// What is wrong with a file of `[server.tls]`. Never shows anything of its contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server.tls.{key}: {text}")]
pub struct TlsError {
    /// The key under `server.tls` that names the file.
    pub key: &'static str,
    pub text: String,
}

impl Tls {
    /// Reads the files (blocking) and checks that they belong together.
    ///
    /// # Errors
    /// Names the key whose file is missing, is not PEM, or does not fit the others.
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let chain = certificates("cert_file", &settings.cert_file)?;
        let key = read("key_file", &settings.key_file)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| error("key_file", "holds no private key in PEM form"))?;

        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            // Unwrap safety: ring has cipher suites for both TLS 1.2 and 1.3, which is all that is checked here.
            .expect("ring supports the default protocol versions");
        let builder = match &settings.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client_ca_file", path)? {
                    roots.add(certificate).map_err(|_| {
                        error("client_ca_file", "holds a certificate that is not valid X.509")
                    })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|_| error("client_ca_file", "holds no usable authority"))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|_| {
            error("key_file", "is not the key of the certificate in cert_file, or of no supported kind")
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(ArcSwap::from_pointee(config))))
    }

    /// From now on, new connections (of all clones) are served as `other` says; open ones are left alone.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    pub(super) async fn accept<T>(&self, stream: T) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.0.load_full()).accept(stream).await
    }
}

fn certificates(key: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(key, path)?).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(error(key, "holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(error(key, "is not a valid PEM file")),
    }
}

fn read(key: &'static str, path: &str) -> Result<Vec<u8>, TlsError> {
    let bytes = file::read(Path::new(path), FILE_BYTES_MAX);
    bytes.map_err(|refusal| error(key, format!("cannot read {path}: {refusal}")))
}

fn error(key: &'static str, text: impl Into<String>) -> TlsError {
    TlsError { key, text: text.into() }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls_pki_types::ServerName;
    use tempfile::TempDir;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    use tokio_rustls::{TlsConnector, client, rustls::ClientConfig};

    use super::*;
    use crate::server::tests::{Server, answer, bounds, http2, start};

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Certificate and key for `localhost`, as PEM.
    fn issue(authority: &Authority) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
    }

    struct Files {
        folder: TempDir,
        settings: TlsSettings,
    }

    fn files(cert: &str, key: &str, client_ca: Option<&str>) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let settings = TlsSettings {
            cert_file: write("cert.pem", cert),
            key_file: write("key.pem", key),
            client_ca_file: client_ca.map(|text| write("ca.pem", text)),
        };
        Files { folder, settings }
    }

    fn load(issued: &(String, String), client_ca: Option<&Authority>) -> Tls {
        let ca = client_ca.map(rcgen::CertifiedIssuer::pem);
        Tls::load(&files(&issued.0, &issued.1, ca.as_deref()).settings).unwrap()
    }

    async fn connect(
        server: &Server,
        trusted: &Authority,
        own: Option<&(String, String)>,
        protocol: &str,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.into()];
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(server.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn is_served(stream: io::Result<client::TlsStream<TcpStream>>) -> bool {
        let Ok(mut stream) = stream else { return false };
        // Under TLS 1.3 a client learns only from its first read that it was refused.
        if stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.is_err() {
            return false;
        }
        let mut peeked = [0];
        match stream.read(&mut peeked).await {
            Ok(1) => answer(&mut stream).await.starts_with("TTP/1.1 200"),
            _ => false,
        }
    }

    #[tokio::test]
    async fn both_protocols_are_served_and_the_certificate_replaced() {
        let (before, after) = (authority(), authority());
        let tls = load(&issue(&before), None);
        let server = start(bounds(), Some(tls.clone())).await;
        assert!(is_served(connect(&server, &before, None, "http/1.1").await).await);
        assert_eq!(http2(connect(&server, &before, None, "h2").await.unwrap()).await.0, 200);
        assert!(connect(&server, &after, None, "http/1.1").await.is_err());

        tls.replace(&load(&issue(&after), None));
        assert!(is_served(connect(&server, &after, None, "http/1.1").await).await);
        assert!(connect(&server, &before, None, "http/1.1").await.is_err());
    }

    #[tokio::test]
    async fn with_a_client_authority_strangers_are_refused() {
        let (ours, clients, others) = (authority(), authority(), authority());
        let server = start(bounds(), Some(load(&issue(&ours), Some(&clients)))).await;
        let client = issue(&clients);
        assert!(is_served(connect(&server, &ours, Some(&client), "http/1.1").await).await);
        let stranger = issue(&others);
        for own in [None, Some(&stranger)] {
            assert!(!is_served(connect(&server, &ours, own, "http/1.1").await).await);
        }
    }

    #[tokio::test]
    async fn a_handshake_that_does_not_come_is_not_waited_for() {
        let bounds =
            crate::server::Bounds { header_timeout: std::time::Duration::from_millis(200), ..bounds() };
        let server = start(bounds, Some(load(&issue(&authority()), None))).await;
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let ours = authority();
        let (cert, key) = issue(&ours);
        let (_, other_key) = issue(&ours);
        let cases = [
            ("cert_file", files("", &key, None)),
            ("cert_file", files("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n", &key, None)),
            ("key_file", files(&cert, &cert, None)),
            ("key_file", files(&cert, &other_key, None)),
            ("client_ca_file", files(&cert, &key, Some("canary"))),
        ];
        for (key, files) in cases {
            let error = Tls::load(&files.settings).unwrap_err();
            assert_eq!(error.key, key, "{error}");
            assert!(!error.to_string().contains("canary"));
        }
        let mut missing = files(&cert, &key, None);
        missing.settings.key_file = missing.folder.path().join("none").to_str().unwrap().to_owned();
        let error = Tls::load(&missing.settings).unwrap_err();
        assert!(error.key == "key_file" && error.text.ends_with("no such file"), "{error}");
    }
}
