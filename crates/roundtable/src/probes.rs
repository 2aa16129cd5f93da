//! What watches a server: `/livez`, `/readyz`, `/metrics` for Prometheus; and `/openapi.json`, which says what can be asked.
//!
//! Clients on this machine are answered at a listener on a loopback address. All others learn yes or no; the rest wants the admin
//! token.
//! A listener for metrics shows figures to everybody who reaches it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State as Shared};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Router};
use bytes::Bytes;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::feeds::Feed;
use roundtable_dialects::session::bearer;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::answer::{Refused, json_response, wrong_method};
use crate::admin::openapi::{Call, Verb};
use crate::auth::first_start::WORKSPACE;
use crate::auth::secrets::Held;
use crate::runner::Handle;
use crate::runner::counters::Histogram;
use crate::transport::http::From;
use crate::transport::report::Counted;
use crate::transport::{Hub, Shards};

/// Prometheus text format, version 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const FEEDS: [(&str, Feed); 5] = [
    ("activity", Feed::Activity),
    ("network", Feed::Network),
    ("consensus", Feed::Consensus),
    ("security", Feed::Security),
    ("monitoring", Feed::Monitoring),
];

/// What the figures are taken from, and the document.
#[derive(Clone)]
pub struct Watched {
    /// The server.
    pub hub: Arc<Hub>,
    /// Who has the connections.
    pub shards: Shards,
    /// The document of the operator's interface, as JSON.
    pub document: Bytes,
}

type Watch = Shared<Watched>;

/// Answer of `GET /livez`.
#[derive(Serialize, ToSchema)]
struct Live {
    /// `live`.
    status: &'static str,
    /// The server's version; strangers are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
}

/// Answer of `GET /readyz`.
#[derive(Serialize, ToSchema)]
struct Ready {
    /// `ready` or `not ready`.
    status: &'static str,
    /// Why not; strangers are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The paths, with what answers them.
fn table() -> [(Call, MethodRouter<Watched>); 4] {
    let open = |path, summary| Call::open(Verb::Get, path, summary);
    let call = |path, summary| open(path, summary).refuses(401);
    [
        (open("/livez", "Whether the process answers.").answers::<Live>(200), get(live)),
        (
            open("/readyz", "Whether every workspace runs and its log takes what it is given.")
                .answers::<Ready>(200)
                .or::<Ready>(503),
            get(ready),
        ),
        (call("/metrics", "Figures for Prometheus.").json().text(TEXT), get(metrics)),
        (call("/openapi.json", "This document.").json(), get(document)),
    ]
}

/// What can be asked here, for the document.
pub fn calls() -> Vec<Call> {
    table().into_iter().map(|(call, _)| call).collect()
}

/// All of the paths.
pub fn router(watched: Watched, secrets: Held) -> Router {
    let routes =
        table().into_iter().fold(Router::new(), |routes, (call, answer)| routes.route(call.path, answer));
    let routes = routes.method_not_allowed_fallback(wrong_method);
    routes.layer(middleware::from_fn_with_state(secrets, admitted)).with_state(watched)
}

/// Whether who asks may see more than yes or no.
#[derive(Clone, Copy)]
struct Knows(bool);

async fn admitted(
    Shared(secrets): Shared<Held>,
    Extension(from): Extension<From>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (path, listener) = (request.uri().path(), &from.listener);
    let knows = may_watch((listener.address.ip(), from.peer), header, &secrets);
    let open = matches!(path, "/livez" | "/readyz") || (listener.watch_only && path == "/metrics");
    if !knows && !open {
        let message = "the admin token is needed: the listener or the client is not on this machine";
        return Refused::from(Error::new(ErrorKind::Unauthenticated, message)).into_response();
    }
    request.extensions_mut().insert(Knows(knows));
    next.run(request).await
}

/// Of a listener's address and a client's: both on this machine, or the admin token.
fn may_watch((listener, client): (IpAddr, IpAddr), authorization: Option<&str>, secrets: &Held) -> bool {
    (listener.to_canonical().is_loopback() && client.to_canonical().is_loopback())
        || authorization.and_then(bearer).is_some_and(|token| secrets.is_admin(token))
}

async fn live(Extension(Knows(knows)): Extension<Knows>) -> Response {
    json_response(200, &Live { status: "live", version: knows.then_some(env!("CARGO_PKG_VERSION")) })
}

async fn document(Shared(watched): Watch) -> Response {
    let mut response = watched.document.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn ready(Shared(Watched { hub, .. }): Watch, Extension(Knows(knows)): Extension<Knows>) -> Response {
    let home = hub.workspaces.get(hub.workspaces.default_id());
    let others = || hub.workspaces.all().iter().find_map(|other| obstacle(Some(other)));
    match obstacle(home.as_ref()).or_else(others) {
        None => json_response(200, &Ready { status: "ready", reason: None }),
        reason => json_response(503, &Ready { status: "not ready", reason: reason.filter(|_| knows) }),
    }
}

/// Why a workspace cannot be relied on at present.
fn obstacle(home: Option<&Handle>) -> Option<String> {
    match home.filter(|home| home.runs()) {
        None => Some(format!(
            "workspace {} does not run",
            home.map_or(WORKSPACE, |home| home.workspace().as_str())
        )),
        Some(home) => home.counters().trouble().map(|why| format!("the log refused the last append: {why}")),
    }
}

async fn metrics(Shared(Watched { hub, shards, .. }): Watch, method: Method) -> Response {
    let text = if method == Method::HEAD { String::new() } else { figures(&hub, &shards.counted().await) };
    let mut response = (StatusCode::OK, text).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response
}

/// Everything that is counted, as it stands now.
fn figures(hub: &Hub, dialects: &BTreeMap<&'static str, Counted>) -> String {
    let mut page = Page::default();
    page.dialects(dialects);
    page.family("roundtable_failed_logins_total", "counter", "Credentials that were refused as wrong.");
    page.value("roundtable_failed_logins_total", "", hub.watch.failures());
    page.family("roundtable_blocked_addresses", "gauge", "Addresses that a security rule keeps out.");
    page.value("roundtable_blocked_addresses", "", blocked(hub));
    page.family("roundtable_connections", "gauge", "Open connections.");
    page.value("roundtable_connections", "", hub.connections.load(Ordering::Relaxed));
    page.family("roundtable_feed_watchers", "gauge", "Connections that watch a feed.");
    for (name, feed) in FEEDS {
        page.value("roundtable_feed_watchers", &format!("feed=\"{name}\""), hub.watched.of(feed));
    }
    page.family(
        "roundtable_disk_left_seconds",
        "gauge",
        "How long the disk lasts at the log's present growth.",
    );
    page.value("roundtable_disk_left_seconds", "", left(hub.figures.load().disk_left_s));
    let mut running = hub.workspaces.all();
    running.sort_by(|a, b| a.workspace().cmp(b.workspace()));
    let running: Vec<(String, Handle)> =
        running.into_iter().map(|h| (label(h.workspace().as_str()), h)).collect();
    let mut each = |name: &str, (kind, help): (&str, &str), value: fn(&Handle) -> u64| {
        page.family(name, kind, help);
        for (workspace, handle) in &running {
            page.value(name, workspace, value(handle));
        }
    };
    each("roundtable_workspace_head", ("gauge", "Offset of the newest record."), |h| h.view().state.head.0);
    each("roundtable_workspace_bytes", ("gauge", "What the log takes on the disk, about."), |h| {
        h.view().state.bytes
    });
    each("roundtable_batches_total", ("counter", "Batches decided."), |h| h.counters().batch_sizes.count());
    each("roundtable_refusals_total", ("counter", "Questions answered with an error."), |h| {
        h.counters().refusals()
    });
    each("roundtable_refused_appends_total", ("counter", "Appends that the log refused."), |h| {
        h.counters().refused_appends()
    });
    page.family("roundtable_batch_size", "histogram", "Questions of one batch.");
    for (workspace, handle) in &running {
        page.histogram("roundtable_batch_size", workspace, &handle.counters().batch_sizes, 1);
    }
    page.family("roundtable_sync_seconds", "histogram", "Time until an append is synced.");
    for (workspace, handle) in &running {
        page.histogram("roundtable_sync_seconds", workspace, &handle.counters().sync_us, 1_000_000);
    }
    page.0
}

/// Seconds, or for ever, as Prometheus reads it.
fn left(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "+Inf".into(), |seconds| format!("{seconds:.0}"))
}

/// How many addresses are kept out now.
fn blocked(hub: &Hub) -> usize {
    let home = hub.workspaces.get(hub.workspaces.default_id());
    home.map_or(0, |home| home.view().state.blocks().len())
}

fn label(workspace: &str) -> String {
    let escaped = workspace.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("workspace=\"{escaped}\"")
}

/// A page in Prometheus text format.
#[derive(Default)]
struct Page(String);

impl Page {
    /// What the shards count of each dialect.
    fn dialects(&mut self, dialects: &BTreeMap<&'static str, Counted>) {
        let mut each = |name: &str, (kind, help): (&str, &str), value: fn(&Counted) -> u64| {
            self.family(name, kind, help);
            for (dialect, counted) in dialects {
                self.value(name, &format!("dialect=\"{dialect}\""), value(counted));
            }
        };
        each("roundtable_sessions", ("gauge", "Open sessions."), |c| c.sessions);
        each("roundtable_queued_bytes", ("gauge", "Bytes that wait for clients."), |c| c.queued_bytes);
        each("roundtable_deliveries_total", ("counter", "Records and signals that sessions got."), |c| {
            c.deliveries
        });
        each(
            "roundtable_session_refusals_total",
            ("counter", "Questions of sessions answered with an error."),
            |c| c.refusals,
        );
        each("roundtable_turned_away_total", ("counter", "Credentials that let nobody in."), |c| {
            c.turned_away
        });
        each(
            "roundtable_too_slow_total",
            ("counter", "Connections ended because nothing of what waited for them was taken."),
            |c| c.too_slow,
        );
        each("roundtable_behind", ("gauge", "Sessions that read from the log what they missed."), |c| {
            c.behind
        });
        let lost = "Signals and news of presence that slow readers did not get.";
        each("roundtable_lost_signals_total", ("counter", lost), |c| c.lost);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    /// The buckets of a histogram; what it holds is divided by `unit`.
    fn histogram(&mut self, name: &str, labels: &str, held: &Histogram, unit: u32) {
        let scaled = |value: u64| value as f64 / f64::from(unit);
        // Read first: what comes in meanwhile must not make a bucket larger than the count says.
        let buckets: Vec<(u64, u64)> = held.cumulative().collect();
        let count = held.count().max(buckets.last().map_or(0, |(_, below)| *below));
        for (bound, below) in buckets {
            self.value(&format!("{name}_bucket"), &format!("{labels},le=\"{}\"", scaled(bound)), below);
        }
        self.value(&format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), count);
        self.value(&format!("{name}_sum"), labels, scaled(held.sum()));
        self.value(&format!("{name}_count"), labels, count);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roundtable_core::command::Command;
    use roundtable_core::ids::{Principal, WorkspaceId};
    use roundtable_core::users::WorkspaceCreated;
    use roundtable_dialects::session::{Ask, Token};

    use super::{Held, Page, label, may_watch, obstacle};
    use crate::auth::secrets::Secrets;
    use crate::log::AppendError;
    use crate::log::memory::MemoryLog;
    use crate::runner::{Audience, Committed, Pace, Workspaces};

    struct Deaf;

    impl Audience for Deaf {
        fn committed(&self, _: Arc<Committed>) {}
    }

    #[tokio::test]
    async fn a_server_is_ready_as_long_as_its_log_takes_what_it_is_given() {
        let (log, id) = (Arc::new(MemoryLog::default()), WorkspaceId::new("w").unwrap());
        let pace = Pace::default();
        let workspaces = Workspaces::new(Arc::clone(&log) as _, Arc::new(Deaf), pace, id.clone());
        assert!(obstacle(None).unwrap().contains("does not run"));
        let runner = tokio::spawn(workspaces.start(&id).unwrap());
        let home = workspaces.get(&id).unwrap();
        assert_eq!(obstacle(Some(&home)), None, "nothing was refused yet");
        let ask = |name: &str| {
            let event = WorkspaceCreated { name: name.into(), domain_key_hash: "0".repeat(64) };
            let home = home.clone();
            async move { home.ask(&Principal::System, Ask::new(Token(0), Command::CreateWorkspace(event))).await }
        };
        log.refuse(Some(AppendError::Full));
        assert!(ask("a").await.is_err());
        assert!(obstacle(Some(&home)).unwrap().ends_with("the disk is full"));
        log.refuse(None);
        assert!(ask("a").await.is_ok());
        assert_eq!(obstacle(Some(&home)), None);
        let counters = home.counters();
        assert_eq!(
            (counters.refusals(), counters.refused_appends(), counters.batch_sizes.count()),
            (1, 1, 2)
        );
        assert_eq!(counters.sync_us.count(), 1, "only what was written was synced");
        runner.abort();
        assert!(runner.await.unwrap_err().is_cancelled());
        assert!(obstacle(Some(&home)).unwrap().contains("does not run"));
    }

    #[test]
    fn only_loopback_listeners_answer_without_the_admin_token() {
        let secrets = Held::new(std::path::Path::new("."), Secrets::draw("secret"));
        let ip = |text: &str| -> super::IpAddr { text.parse().unwrap() };
        let at = |address: &str, header| may_watch((ip(address), ip("127.0.0.1")), header, &secrets);
        let from = |client: &str, header| may_watch((ip("127.0.0.1"), ip(client)), header, &secrets);
        assert!(!from("192.0.2.1", None) && from("192.0.2.1", Some("Bearer secret")), "behind a proxy");
        assert!(at("127.0.0.1", None) && at("::1", None) && at("::ffff:127.0.0.1", None));
        assert!(!at("0.0.0.0", None) && !at("192.0.2.1", Some("Bearer guess")) && !at("::", Some("secret ")));
        assert!(at("0.0.0.0", Some("Bearer secret")));
    }

    #[test]
    fn labels_are_escaped_and_values_stand_alone_without_them() {
        let mut page = Page::default();
        page.family("x", "gauge", "Help.");
        page.value("x", "", 1);
        page.value("x", &label("a\"b\\c"), 2);
        assert_eq!(page.0, "# HELP x Help.\n# TYPE x gauge\nx 1\nx{workspace=\"a\\\"b\\\\c\"} 2\n");
    }
}
