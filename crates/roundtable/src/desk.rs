//! The desk: what REST handlers, of the dialects and of the operator, may ask the server for.

use std::net::IpAddr;
use std::sync::Arc;

use roundtable_core::access;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{MessageId, NodeId, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::Time;
use roundtable_dialects::figures::Figures;
use roundtable_dialects::figures::history::Mean;
use roundtable_dialects::pages::MOST_BYTES;
use roundtable_dialects::rest::{
    Desk, IssuedToken, KeyProof, Limited, LogLevel, LogLine, Page, PageOf, TokenOrder, Unproven,
};
use roundtable_dialects::session::{Ask, Credentials, Family, Identity, Refusal, Sign};

use crate::auth::challenges::{Answered, Challenges};
use crate::clock;
use crate::config::Config;
use crate::log::{self, Shown, page_of_shown};
use crate::runner::find;
use crate::telemetry::recent;
use crate::telemetry::sparse::Sparse;
use crate::transport::Hub;
use crate::transport::http::From;

/// Where desks are opened, one for each request.
#[derive(Clone)]
pub struct Desks {
    hub: Arc<Hub>,
    challenges: Arc<Challenges>,
    approve_nodes: bool,
}

impl Desks {
    /// Over the running server.
    pub fn new(hub: Arc<Hub>, config: &Config) -> Self {
        Self { hub, challenges: Arc::default(), approve_nodes: config.openagi.approve_nodes }
    }

    /// A desk for a request.
    pub fn open(&self, from: From) -> Counter {
        Counter { desks: self.clone(), from }
    }
}

/// The server's own [`Desk`].
pub struct Counter {
    desks: Desks,
    from: From,
}

impl Counter {
    fn no_workspace() -> Error {
        Error::new(ErrorKind::Unavailable, "the workspace is not running")
    }
}

impl Desk for Counter {
    fn now(&self) -> Time {
        clock::now()
    }

    fn random(&self) -> u128 {
        clock::random_u128()
    }

    fn figures(&self) -> Arc<Figures> {
        self.desks.hub.figures.load_full()
    }

    fn history(&self, span: (Time, Time), step_ms: i64) -> Vec<Mean> {
        self.desks.hub.history.lock().map_or_else(|_| Vec::new(), |history| history.read(span, step_ms))
    }

    fn logs(&self, least: LogLevel, limit: usize) -> Vec<LogLine> {
        recent::lines(least, limit)
    }

    fn default_workspace(&self) -> WorkspaceId {
        self.desks.hub.workspaces.default_id().clone()
    }

    fn state(&self, workspace: &WorkspaceId) -> Option<Arc<State>> {
        self.desks.hub.workspaces.get(workspace).map(|handle| Arc::clone(&handle.view().state))
    }

    fn spend(&self, what: Limited, peer: IpAddr) -> Result<(), u64> {
        let spent = self.desks.hub.rates.load().spend(what, peer);
        if let Err(ms) = spent {
            static LINES: Sparse = Sparse::new();
            if let Some(left_out) = LINES.turn() {
                tracing::info!(%peer, limit = ?what, retry_after_ms = ms, left_out, "a request is refused: too many from its address");
            }
            self.desks.hub.watch.saw(Sign::TooFast, self.from.spot());
        }
        spent
    }

    fn approves_nodes(&self) -> bool {
        self.desks.approve_nodes
    }

    fn challenge(&self, node: &NodeId, key: &[u8; 32]) -> (String, Time) {
        let (challenge, end) = self.desks.challenges.make(node, key, clock::steady());
        (challenge, clock::shown(end))
    }

    fn proves(&self, proof: &KeyProof<'_>) -> Result<(), Unproven> {
        let unproven = match self.desks.challenges.check(proof, clock::steady()) {
            Ok(()) => return Ok(()),
            Err(Answered::Before) => {
                self.desks.hub.watch.replayed(self.from.spot(), proof.signature);
                Unproven::Challenge
            }
            Err(Answered::Not(unproven)) => unproven,
        };
        if unproven == Unproven::Signature {
            self.desks.hub.watch.failed(self.from.spot());
        }
        Err(unproven)
    }

    fn refused_ms(&self) -> Option<u64> {
        self.desks.hub.watch.turns_away(self.from.spot())
    }

    async fn identify(&self, credentials: Credentials, _: IpAddr) -> Result<Identity, Refusal> {
        self.desks.hub.watch.identify(&self.desks.hub.identity, credentials, self.from.spot()).await
    }

    async fn hash_secret(&self, secret: String) -> Result<String, Error> {
        self.desks.hub.identity.hashing().make(secret).await
    }

    fn lifetime_s(&self, family: Family) -> u32 {
        self.desks.hub.identity.lifetime_s(family)
    }

    fn messages_per_minute(&self) -> Option<u32> {
        self.desks.hub.rates.load().messages_per_minute()
    }

    fn issue(&self, order: TokenOrder) -> Result<IssuedToken, Error> {
        self.desks.hub.identity.issue(&order)
    }

    async fn ask(&self, who: &Identity, ask: Ask) -> Result<(Outcome, Arc<State>), Error> {
        let handle = self.desks.hub.workspaces.get(&who.workspace).ok_or_else(Self::no_workspace)?;
        handle.ask(&who.principal, ask).await
    }

    async fn page(&self, who: &Identity, room: &RoomId, page: PageOf) -> Result<Page, Error> {
        let handle = self.desks.hub.workspaces.get(&who.workspace).ok_or_else(Self::no_workspace)?;
        let state = Arc::clone(&handle.view().state);
        roundtable_core::rooms::visible(&state, room, &who.principal)?;
        let known = state.room(room).is_some_and(|room| access::may_read_room(&state, room, &who.principal));
        if !known {
            return Err(Error::forbidden(format!("{} is not in room {room}", who.principal.id())));
        }
        let (log, workspace, room) =
            (Arc::clone(self.desks.hub.workspaces.log()), who.workspace.clone(), room.clone());
        let PageOf { before, after, skip, limit } = page;
        let page = log::Page { before, after, skip, limit, bytes: MOST_BYTES };
        let read = move || {
            let Shown { records, more } = page_of_shown(&*log, (&workspace, &state), &room, page)?;
            Ok(Page { records, more })
        };
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a page could not be read")))
    }

    async fn breathe(&self) {
        tokio::task::yield_now().await;
    }

    async fn find(&self, who: &Identity, message: &MessageId) -> Result<Option<Record>, Error> {
        let handle = self.desks.hub.workspaces.get(&who.workspace).ok_or_else(Self::no_workspace)?;
        let (log, view) = (self.desks.hub.workspaces.log(), handle.view());
        find::message(log, (&who.workspace, &view), &who.principal, message).await
    }
}
