//! The accept loop: bounded connections, time limits on headers, graceful shutdown. The listener is given, so that tests bind port 0.

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

/// Whose connection a request came by, among its extensions: the sender's own address, or that of what stands between.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at once; more wait in the listener's backlog. Half of the file descriptors that a process usually has.
    pub connections: u32,
    /// The headers of a request must be whole, and the next request of a kept-alive connection begun, within this time.
    pub headers: Duration,
    /// How long shutdown waits for requests in flight.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 512, headers: Duration::from_secs(30), drain: Duration::from_secs(10) }
    }
}

/// Serves until `stop` resolves, then lets requests in flight end.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: impl Future<Output = ()>) {
    let permits = Arc::new(Semaphore::new(limits.connections as usize));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection(stream, Peer(address), router, limits.headers, stopped).await;
                    drop(permit);
                });
            }
            // The client gave up between the kernel's handshake and ours.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                // Out of file descriptors: they come back as connections end.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    if tokio::time::timeout(limits.drain, permits.acquire_many(limits.connections)).await.is_err() {
        tracing::warn!(waited = ?limits.drain, "requests in flight were cut off");
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    headers: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are small and awaited: waiting to fill a packet would cost 40 ms.
    let _ = stream.set_nodelay(true);
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // The guard of the value must not live on: it is not Send.
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients that go away are everyday life.
        tracing::debug!(%error, "a connection ended early");
    }
}
