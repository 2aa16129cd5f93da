//! What the principals of the simulation ask: anything, to anybody, sensible or not.

use roundtable_core::actions::Act;
use roundtable_core::agents::{AgentCard, AgentStatus, RegisterAgent};
use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::command::Command;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{AgentId, AlertId, GuestId, KeyId, MessageId, Principal, RoomId, UserId};
use roundtable_core::json::Json;
use roundtable_core::messages::{Content, Direct, Post};
use roundtable_core::rooms::{
    CreateRoom, Durability, EnterOwnRoom, Entry, JoinRoom, RoomCard, RoomStatus, RoomUpdated,
};
use roundtable_core::time::Offset;
use roundtable_core::users::{KeyAdded, KeyFor, UserChanged, UserRole};

/// A reproducible sequence of numbers (splitmix64).
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Everybody who takes part: three agents of their own, two of `vic`'s, users, guests.
pub fn principals() -> Vec<Principal> {
    let agents = (0..5).map(|n| Principal::Agent(agent(n)));
    let users = ["ann", "vic", "eve"].map(|name| Principal::User(UserId::new(name).unwrap()));
    let guests = ["g", "h"].map(|name| Principal::Guest(GuestId::new(name).unwrap()));
    agents.chain(users).chain(guests).collect()
}

pub fn agent(n: u64) -> AgentId {
    AgentId::new(&format!("agent-{n}")).unwrap()
}

pub fn room(n: u64) -> RoomId {
    RoomId::new(&format!("room-{n}")).unwrap()
}

/// Which kinds of rooms a world has.
#[derive(Clone, Copy)]
pub struct Kinds {
    pub relaxed: bool,
    pub ephemeral: bool,
}

fn card(kinds: Kinds, dice: &mut Dice) -> RoomCard {
    let durability = match dice.below(3) {
        0 if kinds.relaxed => Durability::Relaxed,
        1 if kinds.ephemeral => Durability::Ephemeral,
        _ => Durability::Durable,
    };
    let entry = *dice.pick(&[Entry::Open, Entry::Open, Entry::Members, Entry::Private]);
    let max_members = dice.once_in(6).then_some(3);
    RoomCard { durability, entry, max_members, ..RoomCard::default() }
}

/// The room in which `chat` happens: relaxed where the world has relaxed rooms.
pub const CHAT: u64 = 1;

/// The first rooms, made by the first agent; two more come by chance.
pub fn beginning(kinds: Kinds) -> Vec<Command> {
    let of = |wanted, durability| if wanted { durability } else { Durability::Durable };
    let cards = [
        (Entry::Open, Durability::Durable),
        (Entry::Open, of(kinds.relaxed, Durability::Relaxed)),
        (Entry::Private, of(kinds.ephemeral, Durability::Ephemeral)),
    ];
    let card = |(entry, durability)| RoomCard { entry, durability, ..RoomCard::default() };
    let create = |(n, card)| Command::CreateRoom(CreateRoom { room: Some(room(n)), card });
    (0..).zip(cards.map(card)).map(create).collect()
}

/// Somebody enters the first two rooms.
pub fn arrival(who: &Principal) -> Vec<Command> {
    let join = |n| JoinRoom { room: room(n), member: who.clone(), create: None, by_key: false };
    [0, CHAT].map(|n| Command::JoinRoom(join(n))).into()
}

/// Something for `actor` to ask. `mark` is unique to the workspace and stands in every message.
pub fn any(actor: &Principal, mark: &str, kinds: Kinds, dice: &mut Dice) -> Command {
    let place = room(dice.below(5));
    let who = agent(dice.below(6));
    let everybody = principals();
    match dice.below(42) {
        0..=13 => Command::Post(Box::new(Post::text(place, actor.clone(), mark))),
        14..=16 => Command::Direct(Box::new(Direct {
            to: who,
            from: actor.clone(),
            content: Content::Text(mark.into()),
            metadata: None,
        })),
        17..=20 => Command::JoinRoom(JoinRoom {
            room: place,
            member: if dice.once_in(4) { dice.pick(&everybody).clone() } else { actor.clone() },
            create: dice.once_in(2).then(|| card(kinds, dice)),
            by_key: false,
        }),
        21 | 22 => Command::LeaveRoom(
            place,
            if dice.once_in(3) { dice.pick(&everybody).clone() } else { actor.clone() },
        ),
        23 => Command::CreateRoom(CreateRoom { room: Some(place), card: card(kinds, dice) }),
        24 => {
            let status = *dice.pick(&[RoomStatus::Active, RoomStatus::Active, RoomStatus::Archived]);
            Command::UpdateRoom(place, RoomUpdated { status: Some(status), ..RoomUpdated::default() })
        }
        25 => Command::MarkRead(place, MessageId::new("m").unwrap(), Offset(dice.below(200))),
        26 | 27 => Command::EnterOwnRoom(EnterOwnRoom { agent: who, card: RoomCard::default() }),
        28 => Command::Type(place, dice.once_in(2)),
        29 => Command::MarkDelivered(Offset(dice.below(200))),
        30 | 31 => {
            let card = AgentCard { name: format!("N{}", dice.below(3)), ..AgentCard::default() };
            Command::RegisterAgent(RegisterAgent { agent: who, card })
        }
        32 => {
            let status = *dice.pick(&[AgentStatus::Busy, AgentStatus::Online, AgentStatus::Paused]);
            Command::SetAgentStatus(who, status, "set".into())
        }
        33 if dice.once_in(3) => Command::RemoveAgent(who, "done".into()),
        34 => Command::AddKey(KeyAdded {
            key: KeyId::new(&format!("key-{}", dice.below(6))).unwrap(),
            hash: String::new(),
            opens: KeyFor::Room { agent: who, room: place },
            expires_at: None,
            name: String::new(),
        }),
        35 => Command::RevokeKey(KeyId::new(&format!("key-{}", dice.below(6))).unwrap()),
        36 => Command::Act(Act { room: place, action: "point".into(), data: None, keep: dice.once_in(2) }),
        37 => Command::Mark(Feed::Activity, dice.once_in(2)),
        38 => Command::RaiseAlert(alert(dice)),
        39 => {
            let user = UserId::new(["vic", "eve"][dice.below(2) as usize]).unwrap();
            let role = Some(*dice.pick(&[UserRole::Viewer, UserRole::Editor]));
            Command::ChangeUser(UserChanged { user, role, password: None, disabled: None })
        }
        40 if dice.once_in(2) => Command::RemoveRoom(room(3 + dice.below(2))),
        _ => Command::Look,
    }
}

fn alert(dice: &mut Dice) -> AlertRaised {
    AlertRaised {
        feed: None,
        alert: AlertId::new("alert").unwrap(),
        source: "cpu".into(),
        level: *dice.pick(&[Level::Info, Level::Critical]),
        title: String::new(),
        message: String::new(),
        value: Some(dice.below(1000) as f64 / 7.0),
        threshold: None,
        details: Json::empty_object(),
    }
}
