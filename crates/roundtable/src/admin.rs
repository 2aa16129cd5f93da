//! The operator's REST interface under `/admin/v1`: accounts, agents, keys, tokens, rooms, and looking on.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{Principal, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::Offset;
use roundtable_dialects::session::bearer;

use crate::admin::answer::Refused;
use crate::auth::Identifier;
use crate::auth::secrets::Secrets;
use crate::config;
use crate::log::Verified;

pub mod answer;
mod claims;
mod keeping;
mod lists;
mod people;
pub mod records;
mod rooms;
mod tokens;
pub mod wire;

/// What the server does for the operator, in the default workspace.
pub trait Office: Send + Sync + 'static {
    /// Which workspace it is.
    fn workspace(&self) -> WorkspaceId;

    /// Its committed state.
    fn state(&self) -> Arc<State>;

    /// Asks the engine in the name of `actor`; resolves when it is in the log. The state is the one after it.
    fn ask(
        &self,
        actor: Principal,
        command: Command,
    ) -> impl Future<Output = Result<(Outcome, Arc<State>), Error>> + Send;

    /// The newest messages of a room before an offset, oldest first.
    fn page(
        &self,
        room: &RoomId,
        before: Option<Offset>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Record>, Error>> + Send;

    /// At most `limit` committed records after an offset, oldest first.
    fn read(&self, after: Offset, limit: usize) -> impl Future<Output = Result<Vec<Record>, Error>> + Send;

    /// Checks the log of every workspace.
    fn verify(&self) -> impl Future<Output = Result<Vec<(WorkspaceId, Verified)>, Error>> + Send;

    /// Copies the log of all workspaces into a new file of the server's machine.
    fn backup(&self, to: PathBuf) -> impl Future<Output = Result<(), Error>> + Send;

    /// Resolves when something is committed beyond an offset, at once if it is already. Pends forever after a stop.
    fn beyond(&self, offset: Offset) -> impl Future<Output = ()> + Send;
}

/// What the routes share.
#[derive(Debug)]
pub struct Admin<O> {
    /// The server.
    pub office: O,
    /// Makes tokens and hashes.
    pub identifier: Identifier,
    /// Knows the admin token.
    pub secrets: Secrets,
    /// Lives of tokens.
    pub lives: config::Auth,
}

type Desk<O> = Shared<Arc<Admin<O>>>;

impl<O: Office> Admin<O> {
    /// Asks in the server's own name.
    async fn command(&self, command: Command) -> Result<(Outcome, Arc<State>), Refused> {
        Ok(self.office.ask(Principal::System, command).await?)
    }
}

/// All routes. Each needs `Authorization: Bearer` with the admin token. Bodies are JSON; the server bounds their size.
pub fn router<O: Office>(admin: Arc<Admin<O>>) -> Router {
    let routes = Router::new()
        .route("/users", get(lists::users::<O>).post(people::add_user::<O>))
        .route("/users/{name}", patch(people::change_user::<O>))
        .route("/agents", get(lists::agents::<O>).post(people::add_agent::<O>))
        .route("/agents/{id}", patch(people::change_agent::<O>))
        .route("/keys", get(lists::keys::<O>).post(tokens::add_key::<O>))
        .route("/keys/{id}", delete(tokens::revoke_key::<O>))
        .route("/tokens", post(tokens::issue::<O>))
        .route("/tokens/revoke", post(tokens::revoke::<O>))
        .route("/rooms", get(lists::rooms::<O>).post(rooms::add::<O>))
        .route("/rooms/{id}/messages", get(rooms::history::<O>).post(rooms::send::<O>))
        .route("/verify", post(keeping::verify::<O>))
        .route("/backup", post(keeping::backup::<O>))
        .route("/tail", get(rooms::tail::<O>))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(admin.clone(), only_operators::<O>))
        .with_state(admin);
    Router::new().nest("/admin/v1", routes)
}

async fn unknown() -> Refused {
    Refused { status: 404, error: Error::new(ErrorKind::InvalidField, "there is no such path") }
}

async fn only_operators<O: Office>(Shared(admin): Desk<O>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match header.and_then(bearer) {
        Some(token) if admin.secrets.is_admin(token) => next.run(request).await,
        Some(_) => Refused::from(Error::new(ErrorKind::InvalidCredential, "this is not the admin token"))
            .into_response(),
        None => Refused::from(Error::new(ErrorKind::Unauthenticated, "the admin token is missing"))
            .into_response(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
