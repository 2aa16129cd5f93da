//! All REST there is: the operator's interface and each dialect's routes, over one desk.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{ConnectionId, Principal, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::Offset;
use roundtable_core::users::WorkspaceCreated;
use roundtable_dialects::pages::MOST_BYTES;
use roundtable_dialects::rest::{Desk, Request, Response as DialectResponse, Unserved};
use roundtable_dialects::session::{Ask, Dialect, Token, bearer};
use roundtable_dialects::{aiwm, hive, megabot, mxf, open_agi};

use crate::admin::answer::Refused;
use crate::admin::{self, Admin, Office};
use crate::auth::secrets::Held;
use crate::clock;
use crate::config::Config;
use crate::desk::Desks;
use crate::log::{Epochs, Page, Shown, Span, Verified, page_of_shown};
use crate::probes;
use crate::runner::Handle;
use crate::transport::http::{From, Unread};
use crate::transport::report::{Listed, ListedSession};
use crate::transport::{Hub, Shards};
use crate::watch::{Standing, address_of, source_of};
use crate::workspaces::{Announcement, EngineThread, ask_system};

/// The operator's office: one workspace of the running server.
#[derive(Clone)]
pub struct FrontOffice {
    /// The server.
    pub hub: Arc<Hub>,
    /// The workspace.
    pub home: Handle,
    /// Where workspaces begin.
    pub engine: Arc<EngineThread>,
    /// How this process is announced to a new one.
    pub node: Announcement,
    /// Who has the connections.
    pub shards: Shards,
}

impl FrontOffice {
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn crate::log::Log, &WorkspaceId) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (log, workspace) = (Arc::clone(self.hub.workspaces.log()), self.home.workspace().clone());
        tokio::task::spawn_blocking(move || read(&*log, &workspace))
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the log could not be read")))
    }
}

impl Office for FrontOffice {
    fn within(&self, workspace: &WorkspaceId) -> Option<Self> {
        let home = self.hub.workspaces.get(workspace).filter(|home| home.view().state.head.0 > 0)?;
        Some(Self { home, ..self.clone() })
    }

    fn is_default(&self) -> bool {
        self.home.workspace() == self.hub.workspaces.default_id()
    }

    fn workspaces(&self) -> Vec<(WorkspaceId, Arc<State>)> {
        let all = self.hub.workspaces.all().into_iter();
        let all = all.map(|home| (home.workspace().clone(), Arc::clone(&home.view().state)));
        all.filter(|(_, state)| state.head.0 > 0).collect()
    }

    async fn found(&self, workspace: WorkspaceId, domain_key_hash: String) -> Result<(), Error> {
        let (engine, hub, name) = (Arc::clone(&self.engine), Arc::clone(&self.hub), workspace.to_string());
        let home = tokio::task::spawn_blocking(move || engine.run(&hub.workspaces, &workspace))
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the workspace could not begin")))?;
        ask_system(&home, Command::CreateWorkspace(WorkspaceCreated { name, domain_key_hash })).await?;
        // The workspace is there: its founder must learn the key.
        if let Err(error) = self.node.begin(&home).await {
            tracing::warn!(workspace = %home.workspace(), %error, "the new workspace knows no server yet");
        }
        Ok(())
    }

    fn workspace(&self) -> WorkspaceId {
        self.home.workspace().clone()
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.home.view().state)
    }

    fn epochs(&self) -> Arc<Epochs> {
        Arc::clone(&self.home.view().epochs)
    }

    async fn ask(&self, actor: Principal, command: Command) -> Result<(Outcome, Arc<State>), Error> {
        self.home.ask(&actor, Ask::new(Token(0), command)).await
    }

    async fn page(&self, room: &RoomId, before: Option<Offset>, limit: usize) -> Result<Shown, Error> {
        let room = room.clone();
        let state = self.state();
        let page = Page { bytes: MOST_BYTES, ..Page::of(before, limit) };
        self.reading(move |log, workspace| page_of_shown(log, (workspace, &state), &room, page)).await
    }

    async fn read(&self, after: Offset, limit: usize) -> Result<Vec<Record>, Error> {
        let span = Span { limit, bytes: MOST_BYTES, ..Span::after(after) };
        self.reading(move |log, workspace| log.read(workspace, span)).await
    }

    async fn connections(&self, only: Option<WorkspaceId>) -> Vec<Listed> {
        let mut all = self.shards.connections().await;
        if let Some(only) = only {
            let inside =
                |session: &ListedSession| session.who.as_ref().is_some_and(|(_, place)| *place == only);
            all.retain(|listed| listed.sessions.iter().any(inside));
        }
        all
    }

    async fn close(&self, connection: ConnectionId) -> bool {
        self.shards.close(connection).await
    }

    async fn verify(&self, only: Option<WorkspaceId>) -> Result<Vec<(WorkspaceId, Verified)>, Error> {
        self.reading(move |log, _| {
            let workspaces = log.workspaces()?.into_iter();
            let wanted = |id: &WorkspaceId| only.as_ref().is_none_or(|only| only == id);
            workspaces
                .filter(wanted)
                .map(|workspace| Ok((workspace.clone(), log.verify(&workspace)?)))
                .collect()
        })
        .await
    }

    async fn backup(&self, to: PathBuf) -> Result<(), Error> {
        self.reading(move |log, _| log.backup(&to)).await
    }

    fn refusals(&self) -> Vec<Standing> {
        let Hub { watch, identity, rates, crowd, .. } = &*self.hub;
        let standing = |address, account, rule: &str, until| {
            let (address, rule) = (source_of(address), rule.to_owned());
            Standing { address, listener: None, account, rule, until }
        };
        let mut all = watch.blocks();
        let accounts = identity.closed_accounts().into_iter();
        all.extend(
            accounts
                .map(|((address, who), until)| standing(address, Some(who), "auth.failures", Some(until))),
        );
        let limits = rates.load().reached().into_iter();
        all.extend(limits.map(|(address, rule, until)| standing(address, None, rule, Some(until))));
        let full = crowd.full().into_iter();
        all.extend(full.map(|address| standing(address, None, "server.connections_per_address", None)));
        all.sort();
        all
    }

    fn forgive(&self, source: &str) {
        let Hub { watch, identity, rates, crowd, .. } = &*self.hub;
        watch.forgive(source);
        if let Some(address) = address_of(source) {
            identity.forgive(address);
            rates.load().forgive(address);
            crowd.forgive(address);
        }
    }

    async fn beyond(&self, offset: Offset) {
        self.home.beyond(offset).await;
    }
}

/// All routes. `office` is that of the default workspace.
pub fn router(office: FrontOffice, secrets: Held, config: &Config) -> Router {
    let hub = Arc::clone(&office.hub);
    let desks = Desks::new(Arc::clone(&hub), config);
    let for_programs = middleware::from_fn_with_state(desks.clone(), metrics_as_json);
    let document = admin::document::<FrontOffice>(&probes::calls());
    let watching = probes::Watched {
        hub: Arc::clone(&hub),
        shards: office.shards.clone(),
        document: Bytes::from(document.to_string()),
    };
    let watching = probes::router(watching, secrets.clone()).layer(for_programs);
    let config = Arc::clone(&hub.config);
    let admin = Admin { office, identifier: (*hub.identity).clone(), secrets, config };
    let watched = middleware::from_fn_with_state(hub, guarded);
    let own = admin::router(Arc::new(admin)).merge(watching).layer(watched);
    let all = own.fallback_service(Router::new().fallback(dialects).with_state(desks.clone()));
    all.layer(middleware::from_fn_with_state(desks, read_whole)).layer(middleware::from_fn(only_watching))
}

/// A listener that is for whoever watches the server has nothing else.
async fn only_watching(
    axum::Extension(from): axum::Extension<From>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let watches = matches!(request.uri().path(), "/livez" | "/readyz" | "/metrics");
    if from.listener.watch_only && !watches {
        let message = "this listener serves /livez, /readyz and /metrics";
        let error = Error::new(ErrorKind::InvalidField, message);
        return Refused { status: 404, error }.into_response();
    }
    next.run(request).await
}

/// Beginnings of paths, each with the dialect that says there why nothing is served; the first one that fits counts.
const PREFIXES: [(&str, Dialect); 13] = [
    ("/dev/aiwm", Dialect::Aiwm),
    ("/openagi", Dialect::OpenAgi),
    ("/api/v1", Dialect::OpenAgi),
    ("/api/auth", Dialect::MegaBot),
    ("/api/messages", Dialect::MegaBot),
    ("/api/users", Dialect::Mxf),
    ("/api/channels", Dialect::Mxf),
    ("/api/memory", Dialect::Mxf),
    ("/api/agents/context", Dialect::Mxf),
    ("/api/agents/memory", Dialect::Mxf),
    ("/api", Dialect::Hive),
    ("/health", Dialect::Hive),
    ("/metrics", Dialect::Hive),
];

/// Answers a request that no handler gets, in the form of the dialect that its path belongs to.
fn unserved(request: &Request<'_>, desk: &impl Desk, why: Unserved) -> DialectResponse {
    let within = |prefix: &str| {
        request.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match PREFIXES.into_iter().find(|(prefix, _)| within(prefix)).map(|(_, dialect)| dialect) {
        Some(Dialect::Aiwm) => aiwm::rest::unserved(request, desk, why),
        Some(Dialect::OpenAgi) => open_agi::rest::unserved(why),
        Some(Dialect::MegaBot) => megabot::rest::unserved(request, why),
        Some(Dialect::Mxf) => mxf::rest::unserved(why),
        Some(Dialect::Hive) => hive::rest::unserved(request, desk, why),
        None => {
            let error = StatusCode::from_u16(why.status()).ok().and_then(|status| status.canonical_reason());
            let body = serde_json::json!({"error": error, "message": why.message()});
            DialectResponse::json(why.status(), &body)
        }
    }
}

/// Refuses requests whose body was too large to be read, or did not come in time.
async fn read_whole(
    Shared(desks): Shared<Desks>,
    axum::Extension(from): axum::Extension<From>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let why = match request.extensions().get::<Unread>() {
        None => return next.run(request).await,
        Some(Unread::TooLarge) => Unserved::TooLarge,
        Some(Unread::Unproven) => Unserved::Unproven,
        Some(Unread::TooSlow | Unread::Cut) => Unserved::TooSlow,
        Some(Unread::Encoded) => Unserved::Encoded,
        Some(Unread::Busy) => Unserved::Busy,
    };
    let path = request.uri().path();
    if path.strip_prefix(admin::BASE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        let kind = match why {
            Unserved::UnknownPath | Unserved::Encoded => ErrorKind::InvalidField,
            Unserved::TooLarge | Unserved::TooSlow => ErrorKind::TooLarge,
            Unserved::Unproven => ErrorKind::Unauthenticated,
            Unserved::Busy => ErrorKind::Unavailable,
        };
        let error = Error::new(kind, why.message());
        return Refused { status: why.status(), error }.into_response();
    }
    let fresh = format!("{:032x}", clock::random_u128());
    let asked = asked((request.method(), request.uri(), request.headers()), &[], &fresh, &from);
    respond(unserved(&asked, &desks.open(from.clone()), why))
}

/// A request as dialects read it; `fresh` is its id unless it brings one.
fn asked<'a>(
    (method, uri, headers): (&'a Method, &'a Uri, &'a HeaderMap),
    body: &'a [u8],
    fresh: &'a str,
    from: &From,
) -> Request<'a> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Request {
        // What is asked by HEAD is what GET would bring; the transport leaves the body out.
        method: if *method == Method::HEAD { Method::GET.as_str() } else { method.as_str() },
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        body,
        authorization: text("authorization"),
        api_key: text("x-api-key"),
        channel_key: text("x-key-id").zip(text("x-secret-key")),
        request_id: text("x-correlation-id").unwrap_or(fresh),
        peer: from.peer,
        anonymous: from.guest,
    }
}

/// The operator's paths: a wrong token counts as a failed login unless it is good for something else here. Where the address
/// is blocked, the right one opens all the same: a stranger cannot lock the operator out.
async fn guarded(
    Shared(hub): Shared<Arc<Hub>>,
    axum::Extension(from): axum::Extension<From>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).cloned();
    let response = next.run(request).await;
    let Some(shown) = shown.filter(|_| response.status() == StatusCode::UNAUTHORIZED) else {
        return response;
    };
    if let Some(ms) = hub.watch.turns_away(from.spot()) {
        let left = ms.div_ceil(1_000);
        let mut error =
            Error::new(ErrorKind::Forbidden, format!("this address is blocked for {left} s more"));
        error.retry_after_ms = Some(ms);
        return Refused::from(error).into_response();
    }
    let genuine = shown.to_str().ok().and_then(bearer).is_some_and(|text| hub.identity.is_genuine(text));
    if !genuine {
        hub.watch.failed(from.spot());
    }
    response
}

/// `/metrics` is Prometheus' text, but for a client that names `application/json`: those read Hive's figures there.
async fn metrics_as_json(
    Shared(desks): Shared<Desks>,
    axum::Extension(from): axum::Extension<From>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let wanted = accept.is_some_and(|accept| accept.contains("application/json"));
    if !wanted || request.uri().path() != "/metrics" {
        return next.run(request).await;
    }
    let (head, _) = request.into_parts();
    let asked = (head.method, head.uri);
    dialects(Shared(desks), axum::Extension(from), asked, head.headers, Bytes::new()).await
}

/// Asks one dialect after the other whether a path is its own.
async fn dialects(
    Shared(desks): Shared<Desks>,
    axum::Extension(from): axum::Extension<From>,
    (method, uri): (Method, Uri),
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fresh = format!("{:032x}", clock::random_u128());
    let request = asked((&method, &uri, &headers), &body, &fresh, &from);
    let desk = desks.open(from);
    let mut answer = aiwm::rest::handle(&request, &desk).await;
    if answer.is_none() {
        answer = open_agi::rest::handle(&request, &desk).await;
    }
    if answer.is_none() {
        answer = mxf::rest::handle(&request, &desk).await;
    }
    if answer.is_none() {
        answer = hive::rest::handle(&request, &desk).await;
    }
    if answer.is_none() {
        answer = megabot::rest::handle(&request, &desk).await;
    }
    respond(answer.unwrap_or_else(|| unserved(&request, &desk, Unserved::UnknownPath)))
}

fn respond(answer: DialectResponse) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    for (name, mut value) in answer.headers {
        if name == "Allow" && value.split(", ").any(|method| method == "GET") {
            value.push_str(", HEAD");
        }
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
        {
            headers.insert(name, value);
        }
    }
    response
}
