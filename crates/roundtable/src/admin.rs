//! The operator's REST interface under `/admin/v1`: accounts, agents, keys, tokens, rooms, and looking on.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{FromRequestParts, Request, State as Shared};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{ConnectionId, Principal, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::Offset;
use roundtable_dialects::session::{bearer, query_value};
use serde_json::Value;

use crate::admin::answer::Refused;
use crate::admin::openapi::Call;
use crate::auth::Identifier;
use crate::auth::first_start::FirstCredentials;
use crate::auth::secrets::Held;
use crate::config::Config;
use crate::log::{Epochs, Shown, Verified};
use crate::transport::http::From;
use crate::transport::report::Listed;
use crate::watch::Standing;

pub mod answer;
mod asked;
pub mod blocks;
mod claims;
pub mod connections;
mod keeping;
mod lists;
pub mod nodes;
pub mod openapi;
pub mod pages;
mod people;
pub mod records;
pub mod renewal;
mod rooms;
pub mod settings;
mod table;
mod tokens;
pub mod wire;
mod workspaces;

/// What the server does for the operator, in one workspace.
pub trait Office: Clone + Send + Sync + 'static {
    /// The same in another workspace; `None` if there is no such workspace.
    fn within(&self, workspace: &WorkspaceId) -> Option<Self>;
    /// Which workspace it is.
    fn workspace(&self) -> WorkspaceId;
    /// Whether it is the workspace of the dialects that know none.
    fn is_default(&self) -> bool;
    /// All workspaces with their committed states.
    fn workspaces(&self) -> Vec<(WorkspaceId, Arc<State>)>;
    /// Makes a workspace and runs it. Fails with `Conflict` if it exists.
    fn found(
        &self,
        workspace: WorkspaceId,
        domain_key_hash: String,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Its committed state.
    fn state(&self) -> Arc<State>;

    /// In which epochs its log was written.
    fn epochs(&self) -> Arc<Epochs>;
    /// Asks the engine in the name of `actor`; resolves when it is in the log. The state is the one after it.
    fn ask(
        &self,
        actor: Principal,
        command: Command,
    ) -> impl Future<Output = Result<(Outcome, Arc<State>), Error>> + Send;

    /// The newest messages of a room before an offset, oldest first, as many as a page has room for.
    fn page(
        &self,
        room: &RoomId,
        before: Option<Offset>,
        limit: usize,
    ) -> impl Future<Output = Result<Shown, Error>> + Send;

    /// At most `limit` committed records after an offset, oldest first.
    fn read(&self, after: Offset, limit: usize) -> impl Future<Output = Result<Vec<Record>, Error>> + Send;

    /// The server's open connections, the oldest first; those of one workspace, or all.
    fn connections(&self, only: Option<WorkspaceId>) -> impl Future<Output = Vec<Listed>> + Send;
    /// Ends a connection for good. Says whether it was there.
    fn close(&self, connection: ConnectionId) -> impl Future<Output = bool> + Send;
    /// Checks the log of one workspace or of all.
    fn verify(
        &self,
        only: Option<WorkspaceId>,
    ) -> impl Future<Output = Result<Vec<(WorkspaceId, Verified)>, Error>> + Send;

    /// Copies the log of all workspaces into a new file of the server's machine.
    fn backup(&self, to: PathBuf) -> impl Future<Output = Result<(), Error>> + Send;

    /// All refusals in force, in order: blocks, limits on logins, requests and connections.
    fn refusals(&self) -> Vec<Standing>;

    /// Forgets what an address did lately, and what it is refused for that is not in the log.
    fn forgive(&self, source: &str);

    /// Resolves when something is committed beyond an offset, at once if it is already. Pends forever after a stop.
    fn beyond(&self, offset: Offset) -> impl Future<Output = ()> + Send;
}

/// Under which path all of it is.
pub(crate) const BASE: &str = "/admin/v1";

/// What the routes share.
#[derive(Clone, Debug)]
pub struct Admin<O> {
    /// The server.
    pub office: O,
    /// Makes tokens and hashes.
    pub identifier: Identifier,
    /// Knows the admin token.
    pub secrets: Held,
    /// The settings in force.
    pub config: Arc<ArcSwap<Config>>,
}

/// What a handler works with: the operator's side of the workspace that the request's query names, else of the default one.
pub struct Desk<O>(pub Arc<Admin<O>>);

/// What a handler works with that is about the server: it takes no workspace, and a `workspace` in the query means nothing.
pub type Whole<O> = Shared<Arc<Admin<O>>>;

impl<O: Office> FromRequestParts<Arc<Admin<O>>> for Desk<O> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin<O>>) -> Result<Self, Refused> {
        let Some(name) = query_value(parts.uri.query().unwrap_or_default(), "workspace") else {
            return Ok(Self(Arc::clone(admin)));
        };
        let unknown = || {
            let error = Error::new(ErrorKind::InvalidField, format!("there is no workspace {name}"));
            Refused { status: 404, error: error.field("workspace") }
        };
        let id = WorkspaceId::new(&name)?;
        let office = admin.office.within(&id).ok_or_else(unknown)?;
        Ok(Self(Arc::new(Admin { office, ..(**admin).clone() })))
    }
}

impl<O: Office> Admin<O> {
    /// Asks in the server's own name.
    async fn command(&self, command: Command) -> Result<(Outcome, Arc<State>), Refused> {
        Ok(self.office.ask(Principal::System, command).await?)
    }

    /// Keeps `credentials.json` true, where it is kept. What has happened has happened, also if it cannot be written.
    async fn note(&self, change: impl FnOnce(&mut FirstCredentials) + Send + 'static) {
        let secrets = self.secrets.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || secrets.note(change)).await {
            tracing::error!(%error, "what was made for the operator at the first start is noted no more as it is");
        }
    }
}

/// All routes. Each needs `Authorization: Bearer` with the admin token. Bodies are JSON; the server bounds their size.
pub fn router<O: Office>(admin: Arc<Admin<O>>) -> Router {
    let all = table::table::<O>().into_iter();
    let routes = all.fold(Router::new(), |routes, (call, answer)| routes.route(call.path, answer));
    let routes = routes
        .fallback(unknown)
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(middleware::from_fn_with_state(admin.clone(), only_operators::<O>))
        .with_state(admin);
    Router::new().nest(BASE, routes)
}

/// The document of all of it and of `others`, which are at the root.
pub fn document<O: Office>(others: &[Call]) -> Value {
    let own: Vec<Call> = table::table::<O>().into_iter().map(|(call, _)| call).collect();
    openapi::document(&[("", others.iter().collect()), (BASE, own.iter().collect())])
}

async fn unknown() -> Refused {
    Refused { status: 404, error: Error::new(ErrorKind::InvalidField, "there is no such path") }
}

async fn only_operators<O: Office>(
    Shared(admin): Shared<Arc<Admin<O>>>,
    request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let known = header.and_then(bearer).map(|token| admin.secrets.is_admin(token));
    // The path alone: a query may hold anything.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let peer = request.extensions().get::<From>().map(|from| from.peer);
    let response = match known {
        Some(true) => next.run(request).await,
        Some(false) => Refused::from(Error::new(ErrorKind::InvalidCredential, "this is not the admin token"))
            .into_response(),
        None => Refused::from(Error::new(ErrorKind::Unauthenticated, "the admin token is missing"))
            .into_response(),
    };
    let status = response.status().as_u16();
    if method == Method::GET && known == Some(true) {
        tracing::debug!(%method, path, status, ?peer, "the operator asked");
    } else {
        tracing::info!(%method, path, status, ?peer, "the operator asked");
    }
    response
}

#[cfg(test)]
pub(crate) mod tests;
