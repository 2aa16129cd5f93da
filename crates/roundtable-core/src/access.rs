//! Who may do what. Every rule about rights stands here and is asked by the nouns.

use crate::delivery::Topic;
use crate::error::Error;
use crate::feeds::Feed;
use crate::ids::{AgentId, Principal, UserId};
use crate::rooms::{Entry, Room};
use crate::state::State;
use crate::time::Offset;
use crate::users::UserRole;

/// Whether it runs the workspace: the server itself, owners and editors.
pub fn may_operate(state: &State, who: &Principal) -> bool {
    match who {
        Principal::System => true,
        Principal::User(id) => state.user(id).is_some_and(|u| !u.disabled && u.role >= UserRole::Editor),
        Principal::Agent(_) | Principal::Guest(_) | Principal::Visitor(_) | Principal::Node(_) => false,
    }
}

/// Whether it makes, changes and removes agents that are not its own, and looks after alerts: who runs the workspace, and guests. Guests exist on
/// loopback listeners only, where who can connect is at home (Hive notes §1); they never speak as an agent.
pub fn may_run_agents(state: &State, who: &Principal) -> bool {
    may_operate(state, who) || matches!(who, Principal::Guest(_))
}

/// Whether it may know which agents there are and what their cards say: everybody who takes part in the workspace as a whole.
pub fn may_see_agents(who: &Principal) -> bool {
    match who {
        Principal::System | Principal::User(_) | Principal::Agent(_) | Principal::Guest(_) => true,
        Principal::Visitor(_) | Principal::Node(_) => false,
    }
}

/// Whether `actor` may speak as `who`: as itself, and a user as its own agents. Fails with `Forbidden`.
pub fn may_act_as(state: &State, actor: &Principal, who: &Principal) -> Result<(), Error> {
    if actor == who || *actor == Principal::System {
        return Ok(());
    }
    let owned = who.agent().and_then(|id| state.agent(id)).and_then(|a| a.owner.as_ref());
    if let (Some(user), Principal::Agent(_)) = (actor.user(), who)
        && (owned == Some(user) || may_operate(state, actor))
    {
        return Ok(());
    }
    Err(Error::forbidden(format!("{} may not act as {}", actor.id(), who.id())))
}

/// Whether `who` owns the room, owns the agent that does, or runs the workspace. Visitors only talk.
pub fn may_manage_room(state: &State, room: &Room, who: &Principal) -> bool {
    if matches!(who, Principal::Visitor(_)) {
        return false;
    }
    // Whoever took the owner's name later owns nothing of it.
    let owned = state.is_same_bearer(&room.owner, room.made);
    let through_agent = || {
        let owner = room.owner.agent().and_then(|id| state.agent(id)).and_then(|a| a.owner.as_ref());
        owner.is_some() && owner == who.user()
    };
    may_operate(state, who) || owned && (room.owner == *who || through_agent())
}

/// Whether `who` may learn that a private room exists.
pub fn may_see_room(state: &State, room: &Room, who: &Principal) -> bool {
    room.members.contains_key(who) || is_invited(state, room, who) || may_manage_room(state, room, who)
}

/// Whether a room waits for `who`. Whoever took an invited name later is somebody else; an unknown name waits in vain.
pub fn is_invited(state: &State, room: &Room, who: &Principal) -> bool {
    let unknown = || state.incarnation(who).is_none();
    room.invited.get(who).is_some_and(|asked| unknown() || state.is_same_bearer(who, *asked))
}

/// Whether `actor` may bring `member` (itself or an own agent) into the room. An agent's own room is for the users and agents
/// of the workspace.
pub fn may_join_room(state: &State, room: &Room, actor: &Principal, member: &Principal) -> bool {
    let inside = room.members.contains_key(member);
    match (room.card.entry, actor) {
        (_, Principal::Node(_)) => false,
        (_, Principal::Visitor(_)) => inside,
        (Entry::Open, Principal::Guest(_)) => inside || room.card.agent.is_none(),
        (Entry::Open, _) => true,
        (Entry::Members | Entry::Private, _) => {
            inside || is_invited(state, room, member) || may_manage_room(state, room, actor)
        }
    }
}

/// Whether `who` may read what was said in a room: who is in it, and who may enter it.
pub fn may_read_room(state: &State, room: &Room, who: &Principal) -> bool {
    may_receive(state, who, &Topic::Room(room.id.clone())) || may_join_room(state, room, who, who)
}

/// Whether `who` may take back what `author` said at an offset: the author, whoever may act as it, and who runs the workspace.
pub fn may_delete_message(state: &State, who: &Principal, (author, at): (&Principal, Offset)) -> bool {
    let as_author = || state.is_same_bearer(author, at) && may_act_as(state, who, author).is_ok();
    may_operate(state, who) || as_author()
}

/// Whether `who` may make a token worthless: its bearer, whoever may act as the bearer, and who runs the workspace.
pub fn may_revoke_token(state: &State, who: &Principal, bearer: Option<&Principal>) -> bool {
    may_operate(state, who) || bearer.is_some_and(|bearer| may_act_as(state, who, bearer).is_ok())
}

/// Whether `who` may take a position in the log for a feed: who may watch it. Reports to all watchers are ordered by who
/// runs the workspace.
pub fn may_mark(state: &State, who: &Principal, feed: Feed, report: bool) -> bool {
    if report { may_operate(state, who) } else { may_receive(state, who, &Topic::Feed(feed)) }
}

/// Whether `who` is in the room: as a member, or a user through an agent that it may speak as.
pub fn is_inside(state: &State, room: &Room, who: &Principal) -> bool {
    room.members.contains_key(who)
        || who.user().is_some_and(|user| is_inside_by_agent(state, room, (who, user)))
}

fn is_inside_by_agent(state: &State, room: &Room, (who, user): (&Principal, &UserId)) -> bool {
    if may_operate(state, who) {
        return room.agents().next().is_some();
    }
    // Whichever are fewer: the user's agents, or the room's.
    let owned = state.holdings().of(who).agents as usize;
    if owned < room.members.len() {
        let mut agents = state.holdings().agents_of(who);
        return agents.any(|agent| room.members.contains_key(&Principal::Agent(agent.clone())));
    }
    let is_owned =
        |agent: &AgentId| state.agent(agent).is_some_and(|known| known.owner.as_ref() == Some(user));
    room.agents().any(is_owned)
}

/// Whether a connection of `who` may receive what goes to `topic`. Asked at every subscription and resume.
pub fn may_receive(state: &State, who: &Principal, topic: &Topic) -> bool {
    match topic {
        Topic::Room(id) => {
            let Some(room) = state.room(id) else { return false };
            *who == Principal::System || is_inside(state, room, who)
        }
        Topic::Principal(addressee) => may_act_as(state, who, addressee).is_ok(),
        Topic::Feed(Feed::Activity) => {
            matches!(who, Principal::System | Principal::User(_) | Principal::Guest(_))
        }
        Topic::Feed(_) => matches!(who, Principal::Node(_) | Principal::System | Principal::User(_)),
    }
}
