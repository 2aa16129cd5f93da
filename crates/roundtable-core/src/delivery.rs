//! Delivery: to whom an event or a signal goes.

use smallvec::{SmallVec, smallvec};

use crate::alerts::{AlertCleared, AlertRaised};
use crate::event::{Event, Record};
use crate::feeds::Feed;
use crate::ids::{AgentId, ConnectionId, Principal, RoomId};
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

/// To whom a record goes, seen from the state right after it. A principal's coming and going is told once per room it is in, further connections of it to nobody.
pub fn topics_of_record(record: &Record, state: &State) -> Topics {
    let rooms_of = |who: &Principal| state.rooms_of(who).cloned().map(Topic::Room).collect::<Topics>();
    let own_room = || record.room.clone().map(Topic::Room);
    match &record.event {
        Event::WorkspaceCreated(_)
        | Event::DomainKeySet(_)
        | Event::KeyAdded(_)
        | Event::TokenRevoked(_)
        | Event::TokenNoted(_)
        | Event::NodeKeySet(_)
        | Event::AlertAcknowledged(_)
        | Event::ThresholdSet(_)
        | Event::ThresholdRemoved(_)
        | Event::BlockEnded(_)
        | Event::MessageDelivered(_)
        | Event::PresenceReached(_)
        | Event::MessageExpired(_) => Topics::new(),
        Event::UserAdded(_) => Topics::new(),
        Event::SeatKept(e) if e.opened => smallvec![Topic::Principal(record.actor.clone())],
        Event::SeatKept(_) => Topics::new(),
        Event::KeyRevoked(e) => {
            let owner = state.key(&e.key).map(|key| key.bearer());
            owner.map(Topic::Principal).into_iter().collect()
        }
        Event::UserChanged(e) => smallvec![Topic::Principal(Principal::User(e.user.clone()))],
        Event::UserRemoved(e) => smallvec![Topic::Principal(Principal::User(e.user.clone()))],
        Event::ServerStarted(_) => smallvec![Topic::Feed(Feed::Activity)],
        Event::NodeJoined(_) | Event::NodeLeft(_) => smallvec![Topic::Feed(Feed::Network)],
        Event::AgentSecretSet(e) => smallvec![Topic::Principal(Principal::Agent(e.agent.clone()))],
        Event::AgentRegistered(_) => smallvec![Topic::Feed(Feed::Activity)],
        Event::AgentUpdated(e) => about_agent(rooms_of(&Principal::Agent(e.agent.clone())), &e.agent),
        Event::AgentStatusChanged(e) => about_agent(rooms_of(&Principal::Agent(e.agent.clone())), &e.agent),
        Event::AgentRemoved(e) => about_agent(Topics::new(), &e.agent),
        Event::RoomInvited(e) => smallvec![Topic::Principal(e.member.clone())],
        Event::RoomLeft(e) => own_room().into_iter().chain([Topic::Principal(e.member.clone())]).collect(),
        Event::RoomJoined(e) => {
            let invited = e.by.is_some().then(|| Topic::Principal(e.member.clone()));
            own_room().into_iter().chain(invited).collect()
        }
        Event::RoomCreated(_)
        | Event::RoomUpdated(_)
        | Event::RoomRead(_)
        | Event::RoomActed(_)
        | Event::RoomRemoved(_)
        | Event::RoomSummarised(_)
        | Event::MessageDeleted(_)
        | Event::MessagePosted(_) => own_room().into_iter().collect(),
        Event::MessageDirect(e) => smallvec![Topic::Principal(e.to.clone())],
        Event::PresenceConnected(e) if e.first => rooms_of(&e.principal),
        Event::PresenceDisconnected(e) if e.last => rooms_of(&e.principal),
        Event::PresenceConnected(_) | Event::PresenceDisconnected(_) => Topics::new(),
        Event::AlertRaised(AlertRaised { feed, .. }) | Event::AlertCleared(AlertCleared { feed, .. }) => {
            match feed {
                Some(feed) => smallvec![Topic::Feed(*feed)],
                None => smallvec![Topic::Feed(Feed::Activity), Topic::Feed(Feed::Monitoring)],
            }
        }
        Event::HealthChanged(_) | Event::FaultNoticed(_) => smallvec![Topic::Feed(Feed::Activity)],
        Event::SecurityNoticed(_) => smallvec![Topic::Feed(Feed::Security)],
        Event::FeedMarked(e) if e.report => smallvec![Topic::Feed(e.feed)],
        Event::FeedMarked(_) => Topics::new(),
    }
}

fn about_agent(mut topics: Topics, agent: &AgentId) -> Topics {
    topics.push(Topic::Principal(Principal::Agent(agent.clone())));
    topics.push(Topic::Feed(Feed::Activity));
    topics
}

/// The one principal that a record concerns wherever it is: what is sent to it, and what others did to it.
pub fn target_of(event: &Event) -> Option<Principal> {
    let agent = |id: &AgentId| Some(Principal::Agent(id.clone()));
    match event {
        Event::MessageDirect(e) => Some(e.to.clone()),
        Event::RoomLeft(e) => Some(e.member.clone()),
        Event::RoomInvited(e) => Some(e.member.clone()),
        Event::RoomJoined(e) if e.by.is_some() => Some(e.member.clone()),
        Event::UserChanged(e) => Some(Principal::User(e.user.clone())),
        Event::UserRemoved(e) => Some(Principal::User(e.user.clone())),
        Event::AgentSecretSet(e) => agent(&e.agent),
        Event::AgentUpdated(e) => agent(&e.agent),
        Event::AgentStatusChanged(e) => agent(&e.agent),
        Event::AgentRemoved(e) => agent(&e.agent),
        _ => None,
    }
}

/// The kinds of records that go to a feed; of `feed.marked`, the reports that name it; of alerts, those that name no other.
pub const fn kinds_of_feed(feed: Feed) -> &'static [&'static str] {
    match feed {
        Feed::Activity => &[
            "server.started",
            "agent.registered",
            "agent.updated",
            "agent.status_changed",
            "agent.removed",
            "alert.raised",
            "alert.cleared",
            "component.changed",
            "fault.noticed",
            "feed.marked",
        ],
        Feed::Network => &["node.joined", "node.left", "feed.marked"],
        Feed::Consensus => &["feed.marked"],
        Feed::Security => &["security.noticed", "feed.marked"],
        Feed::Monitoring => &["alert.raised", "alert.cleared", "feed.marked"],
    }
}

/// Whether a record goes to a topic when it is read back from the log, without the state of its time. The same as
/// [`topics_of_record`] but for two things that are only worth telling when they happen: what a principal's coming, going
/// or change means to its rooms, and the end of a key.
pub fn replays(record: &Record, topic: &Topic) -> bool {
    match topic {
        Topic::Room(room) => record.room.as_ref() == Some(room),
        Topic::Principal(who) => target_of(&record.event).as_ref() == Some(who),
        Topic::Feed(feed) => {
            let others = match &record.event {
                Event::FeedMarked(e) => e.feed != *feed || !e.report,
                Event::AlertRaised(AlertRaised { feed: of, .. })
                | Event::AlertCleared(AlertCleared { feed: of, .. }) => of.is_some_and(|of| of != *feed),
                _ => false,
            };
            kinds_of_feed(*feed).contains(&record.event.kind()) && !others
        }
    }
}

/// All topics that a record [`replays`] on.
pub fn read_back_topics(record: &Record) -> Topics {
    let room = record.room.clone().map(Topic::Room);
    let target = target_of(&record.event).map(Topic::Principal);
    let feeds = Feed::ALL.map(Topic::Feed).into_iter().filter(|feed| replays(record, feed));
    room.into_iter().chain(target).chain(feeds).collect()
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

#[cfg(test)]
mod tests {
    use super::{Topic, kinds_of_feed, replays, topics_of_record};
    use crate::alerts::AlertCleared;
    use crate::event::{Event, Record};
    use crate::feeds::Feed;
    use crate::ids::{AlertId, Principal};
    use crate::state::State;
    use crate::time::{Offset, Time};

    #[test]
    fn feeds_name_kinds_that_exist() {
        for feed in Feed::ALL {
            for kind in kinds_of_feed(feed) {
                assert!(Event::KINDS.contains(kind), "{kind}");
            }
        }
    }

    #[test]
    fn an_alert_of_one_feed_is_told_to_its_watchers_alone() {
        let alert = AlertId::new("m1").unwrap();
        for (feed, expected) in [(None, [true, true]), (Some(Feed::Activity), [true, false])] {
            let event =
                Event::AlertCleared(AlertCleared { alert: alert.clone(), source: "memory".into(), feed });
            let (offset, at, actor) = (Offset(1), Time(1), Principal::System);
            let record = Record { offset, room_seq: None, at, t: at, actor, room: None, client: None, event };
            let told = [Feed::Activity, Feed::Monitoring].map(|feed| {
                let topic = Topic::Feed(feed);
                let live = topics_of_record(&record, &State::default()).contains(&topic);
                assert_eq!(live, replays(&record, &topic), "live and read back are the same");
                live
            });
            assert_eq!(told, expected);
        }
    }
}
