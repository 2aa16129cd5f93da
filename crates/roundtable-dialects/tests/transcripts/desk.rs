//! What REST handlers ask the server for, answered by the world in memory.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::event::Record;
use roundtable_core::ids::{MessageId, NodeId, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::Time;
use roundtable_dialects::figures::Figures;
use roundtable_dialects::rest::{Desk, IssuedToken, Page, PageOf, Request, Response, TokenOrder};
use roundtable_dialects::session::{Ask, Credentials, Dialect, Identity, Refusal};
use roundtable_dialects::{aiwm, hive, megabot, mxf, open_agi};

use super::identity::{hash, workspace};
use super::world::World;

/// The desk of one request.
pub struct Counter<'a>(Mutex<&'a mut World>);

impl Counter<'_> {
    fn with<T>(&self, run: impl FnOnce(&mut World) -> T) -> T {
        run(&mut self.0.lock().unwrap())
    }
}

/// Answers a request of a dialect; `None` if the path is none of its own.
pub fn answer(world: &mut World, dialect: Dialect, request: &Request<'_>) -> Option<Response> {
    let desk = Counter(Mutex::new(world));
    match dialect {
        Dialect::Aiwm => finished(aiwm::rest::handle(request, &desk)),
        Dialect::OpenAgi => finished(open_agi::rest::handle(request, &desk)),
        Dialect::Hive => finished(hive::rest::handle(request, &desk)),
        Dialect::MegaBot => finished(megabot::rest::handle(request, &desk)),
        Dialect::Mxf => finished(mxf::rest::handle(request, &desk)),
    }
}

/// Nothing in memory has to be waited for.
fn finished<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a request waits for something that is not in memory"),
    }
}

impl Desk for Counter<'_> {
    fn now(&self) -> Time {
        self.with(|world| world.now)
    }

    fn random(&self) -> u128 {
        self.with(|world| u128::from(world.random()) << 64 | u128::from(world.random()))
    }

    fn figures(&self) -> Arc<Figures> {
        self.with(|world| Arc::new(world.figures.clone()))
    }

    fn default_workspace(&self) -> WorkspaceId {
        workspace()
    }

    fn state(&self, asked: &WorkspaceId) -> Option<Arc<State>> {
        self.with(|world| (*asked == workspace()).then(|| Arc::new(world.state.clone())))
    }

    fn challenge(&self, node: &NodeId, _: &[u8; 32]) -> (String, Time) {
        self.with(|world| (format!("{node}-{:016x}", world.random()), world.now.plus(60_000)))
    }

    async fn identify(&self, credentials: Credentials, _: IpAddr) -> Result<Identity, Refusal> {
        self.with(|world| world.desk.identify(&world.state, &credentials, world.now))
    }

    async fn hash_secret(&self, secret: String) -> Result<String, Error> {
        Ok(hash(&secret))
    }

    fn issue(&self, order: TokenOrder) -> Result<IssuedToken, Error> {
        let random = self.random();
        self.with(|world| Ok(world.desk.issue(&order, world.now, random)))
    }

    async fn ask(&self, who: &Identity, ask: Ask) -> Result<(Outcome, Arc<State>), Error> {
        self.with(|world| {
            let outcome = world.ask(&who.principal, &ask)?;
            Ok((outcome, Arc::new(world.state.clone())))
        })
    }

    async fn page(&self, who: &Identity, room: &RoomId, page: PageOf) -> Result<Page, Error> {
        let all = self.with(|world| world.page(&who.principal, room, page.before, u32::MAX))?;
        Ok(page.of(all))
    }

    async fn find(&self, who: &Identity, message: &MessageId) -> Result<Option<Record>, Error> {
        self.with(|world| Ok(world.find(&who.principal, message)))
    }
}
