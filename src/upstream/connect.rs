//! A new way to the app: dialled, and encrypted if asked.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring},
};

use super::{Target, connection::Stream};

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// The certificate authorities an https upstream may be certified by. Cheap to clone.
#[derive(Clone)]
pub struct Roots(Arc<ClientConfig>);

/// What is wrong with the contents of a `ca_file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RootsError(&'static str);

impl Roots {
    /// The public authorities (Mozilla's list, as of the build) and those in `extra`, the contents of a PEM file.
    ///
    /// # Errors
    /// If `extra` holds no certificate, or one that cannot be read.
    pub fn new(extra: Option<&[u8]>) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let public = store.len();
        for certificate in extra.into_iter().flat_map(CertificateDer::pem_slice_iter) {
            let certificate = certificate.map_err(|_| RootsError("is not a valid PEM file"))?;
            store.add(certificate).map_err(|_| RootsError("holds a certificate that is not valid X.509"))?;
        }
        if extra.is_some() && store.len() == public {
            return Err(RootsError("holds no certificate"));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            // Unwrap safety: ring has cipher suites for both TLS 1.2 and 1.3, which is all that is checked here.
            .expect("ring supports the default protocol versions")
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").finish_non_exhaustive()
    }
}

/// Opens a way to the app; whether it is not encrypted. `patience` is what the addresses of a name share; for the rest there is
/// no deadline, and dropping the future gives up.
pub(super) async fn connect(
    target: &Target,
    roots: &Roots,
    patience: Duration,
) -> io::Result<(Box<dyn Stream>, bool)> {
    match target {
        Target::Unix { socket, .. } => Ok((Box::new(UnixStream::connect(socket).await?), true)),
        Target::Tcp { host, port, tls, .. } => {
            let addresses = lookup_host((host.as_str(), *port)).await?.take(ADDRESSES_MAX).collect();
            let stream = dial(addresses, patience).await?;
            stream.set_nodelay(true)?;
            match tls {
                None => Ok((Box::new(stream), true)),
                Some(name) => {
                    let connector = TlsConnector::from(Arc::clone(&roots.0));
                    Ok((Box::new(connector.connect(name.clone(), stream).await?), false))
                }
            }
        }
    }
}

/// Connects to the first address that answers within its share of the time: one that is silent must not hide the next.
async fn dial(addresses: Vec<SocketAddr>, patience: Duration) -> io::Result<TcpStream> {
    let share = patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(refusal)) => error = refusal,
            Err(elapsed) => error = elapsed.into(),
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_silent_address_does_not_hide_the_next() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Nobody accepts and there is room for one: Linux answers no further attempt.
        let silent = socket.listen(0).unwrap();
        let _one = TcpStream::connect(silent.local_addr().unwrap()).await.unwrap();
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [&silent, &there].map(|listener| listener.local_addr().unwrap());
        let patience = Duration::from_millis(400);
        let stream = timeout(patience, dial(addresses.to_vec(), patience)).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        let alone = dial(addresses[..1].to_vec(), Duration::from_millis(10)).await;
        assert_eq!(alone.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(dial(Vec::new(), patience).await.is_err());
    }
}
