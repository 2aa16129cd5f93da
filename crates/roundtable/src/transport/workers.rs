//! Threads that work on REST requests, so that no shard, and none of its connections, waits for what somebody asks there.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tower_service::Service as _;

use super::Settings;
use super::http::Memory;
use crate::shares::{Share, Shares};

/// Requests that are worked on at the same time: each may hold a page of the log and the answer made of it.
const MOST: u32 = 128;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Threads that wait for the disk or check passwords.
const BLOCKING: usize = 4;

/// The threads, and turns at them.
pub struct Workers {
    handle: Handle,
    runtime: Option<Runtime>,
    turns: Arc<Shares>,
    /// Memory for what the requests bring.
    pub bodies: Memory,
}

/// Why a request was not worked on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unworked {
    /// Its turn did not come in time.
    Busy,
    /// The handler failed.
    Failed,
}

impl Workers {
    /// Starts them. Fails when the system gives no threads.
    pub fn start(settings: &Settings) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads((cores / 2).max(2))
            .max_blocking_threads(BLOCKING)
            .thread_name("rest")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self {
            handle,
            runtime: Some(runtime),
            turns: Shares::new(MOST, settings.requests_each),
            bodies: Memory::of(settings),
        })
    }

    /// Works on a request of an address when its turn comes. The turn is given back when the share is dropped: not before a
    /// large answer has been read, since it stands in memory until then. Whoever stops waiting ends the work.
    pub async fn answer(
        &self,
        address: IpAddr,
        mut router: Router,
        request: Request<Body>,
    ) -> Result<(Response<Body>, Share), Unworked> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.take(address, 1)).await;
        let turn = turn.ok().flatten().ok_or(Unworked::Busy)?;
        let mut work = EndsWithIt(self.handle.spawn(async move { router.call(request).await }));
        match (&mut work.0).await {
            Ok(Ok(response)) => Ok((response, turn)),
            Ok(Err(never)) => match never {},
            Err(_) => Err(Unworked::Failed),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Work that ends with whoever waits for it.
struct EndsWithIt(JoinHandle<Result<Response<Body>, Infallible>>);

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http::Request;
    use tokio::sync::Notify;

    use super::{Settings, Unworked, Workers};

    fn request(path: &str) -> Request<Body> {
        Request::builder().uri(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn one_address_waits_for_itself_alone_and_who_goes_takes_the_work_along() {
        let (workers, held) = (
            Workers::start(&Settings { requests_each: 1, ..Settings::default() }).unwrap(),
            Arc::new(Notify::new()),
        );
        let wait = Arc::clone(&held);
        let router = Router::new()
            .route("/now", get(|| async { "now" }))
            .route("/wait", get(move || async move { wait.notified().await }))
            .route("/fault", get(|| async { assert_eq!(1, 2, "a fault of the handler") }));
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let soon = Duration::from_millis(200);
        let mut long = Box::pin(workers.answer(one, router.clone(), request("/wait")));
        assert!(tokio::time::timeout(soon, &mut long).await.is_err(), "it is under way");
        let again = workers.answer(one, router.clone(), request("/now"));
        assert!(tokio::time::timeout(soon, again).await.is_err(), "its address has its turn");
        assert!(workers.answer(other, router.clone(), request("/now")).await.is_ok());
        drop(long);
        let (response, turn) = workers.answer(one, router.clone(), request("/now")).await.unwrap();
        assert_eq!(response.status(), 200);
        drop(turn);
        let failed = workers.answer(one, router, request("/fault")).await;
        assert_eq!(failed.err(), Some(Unworked::Failed));
    }
}
