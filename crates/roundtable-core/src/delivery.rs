//! Delivery: to whom an event or a signal goes.

use smallvec::{SmallVec, smallvec};

use crate::event::{Event, Record};
use crate::feeds::Feed;
use crate::ids::{ConnectionId, Principal, RoomId};
use crate::signal::{Signal, SignalBody};
use crate::state::State;

/// What connections subscribe to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Topic {
    /// The members of a room.
    Room(RoomId),
    /// One principal, on all its connections.
    Principal(Principal),
    /// The watchers of a feed.
    Feed(Feed),
}

/// A committed event or a signal.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// From the log.
    Record(&'a Record),
    /// Not kept.
    Signal(&'a Signal),
}

/// One item on its way to the subscribers of one topic.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// What.
    pub item: Item<'a>,
    /// To whom.
    pub topic: &'a Topic,
    /// The connection that caused it; unknown when it is read back from the log.
    pub origin: Option<ConnectionId>,
}

/// Topics of one item; nearly always one or two.
pub type Topics = SmallVec<[Topic; 2]>;

/// To whom a record goes, seen from the state right after it. A principal's coming and going is told once per room it is in.
pub fn topics_of_record(record: &Record, state: &State) -> Topics {
    let rooms_of = |who: &Principal| state.rooms_of(who).cloned().map(Topic::Room).collect::<Topics>();
    let own_room = || record.room.clone().map(Topic::Room);
    match &record.event {
        Event::WorkspaceCreated(_)
        | Event::KeyAdded(_)
        | Event::TokenRevoked(_)
        | Event::MessageDelivered(_) => Topics::new(),
        Event::UserAdded(_) => Topics::new(),
        Event::KeyRevoked(e) => {
            let owner = state.key(&e.key).map(|key| key.bearer());
            owner.map(Topic::Principal).into_iter().collect()
        }
        Event::UserChanged(e) => smallvec![Topic::Principal(Principal::User(e.user.clone()))],
        Event::ServerStarted(_) => smallvec![Topic::Feed(Feed::Activity)],
        Event::NodeJoined(_) | Event::NodeLeft(_) => smallvec![Topic::Feed(Feed::Network)],
        Event::AgentSecretSet(e) => smallvec![Topic::Principal(Principal::Agent(e.agent.clone()))],
        Event::AgentRegistered(_) => smallvec![Topic::Feed(Feed::Activity)],
        Event::AgentUpdated(e) => about_agent(rooms_of(&Principal::Agent(e.agent.clone())), &e.agent),
        Event::AgentStatusChanged(e) => about_agent(rooms_of(&Principal::Agent(e.agent.clone())), &e.agent),
        Event::AgentRemoved(e) => about_agent(Topics::new(), &e.agent),
        Event::RoomLeft(e) => own_room().into_iter().chain([Topic::Principal(e.member.clone())]).collect(),
        Event::RoomCreated(_)
        | Event::RoomUpdated(_)
        | Event::RoomJoined(_)
        | Event::RoomRead(_)
        | Event::MessagePosted(_) => own_room().into_iter().collect(),
        Event::MessageDirect(e) => smallvec![Topic::Principal(e.to.clone())],
        Event::PresenceConnected(e) => rooms_of(&e.principal),
        Event::PresenceDisconnected(e) => rooms_of(&e.principal),
        Event::AlertRaised(_) | Event::AlertCleared(_) => {
            smallvec![Topic::Feed(Feed::Activity), Topic::Feed(Feed::Monitoring)]
        }
        Event::SecurityNoticed(_) => smallvec![Topic::Feed(Feed::Security)],
        Event::FeedMarked(e) => smallvec![Topic::Feed(e.feed)],
    }
}

fn about_agent(mut topics: Topics, agent: &crate::ids::AgentId) -> Topics {
    topics.push(Topic::Principal(Principal::Agent(agent.clone())));
    topics.push(Topic::Feed(Feed::Activity));
    topics
}

/// To whom a signal goes.
pub fn topics_of_signal(signal: &Signal) -> Topics {
    match (&signal.room, &signal.body) {
        (_, SignalBody::Metric(_)) => smallvec![Topic::Feed(Feed::Monitoring)],
        (Some(room), SignalBody::Typing { .. } | SignalBody::Message(_) | SignalBody::Action { .. }) => {
            smallvec![Topic::Room(room.clone())]
        }
        (None, SignalBody::Typing { .. } | SignalBody::Message(_) | SignalBody::Action { .. }) => {
            Topics::new()
        }
    }
}
