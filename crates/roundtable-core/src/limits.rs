//! Limits of the rules, each with its reason. Limits of the wire are configuration of the server.

/// Longest message text in bytes: what fits into one inbound frame of 1 MiB.
pub const MAX_CONTENT_BYTES: usize = 1 << 20;
/// Longest name of an agent, room or user, in characters (MXF notes §5).
pub const MAX_NAME_CHARS: usize = 200;
/// Longest description in bytes; a room's card, not a document.
pub const MAX_DESCRIPTION_BYTES: usize = 16 << 10;
/// Largest metadata object in bytes: it is part of the state, so it must stay small.
pub const MAX_METADATA_BYTES: usize = 64 << 10;
/// Largest settings of an agent in bytes: its instruction and what tools it may use, not its documents.
pub const MAX_CONFIG_BYTES: usize = 256 << 10;
/// Deepest JSON: what is read back from the log, with what stands around it, may be 127 deep.
pub const MAX_DEPTH: usize = 100;
/// Most members of one room unless its owner says less; every one of them is part of the state.
pub const MAX_MEMBERS: usize = 100_000;
/// Most capabilities of one agent.
pub const MAX_CAPABILITIES: usize = 256;
/// Most revoked keys that are remembered, so that who shows one is told so; the log has them all.
pub const MAX_REVOKED_KEYS: usize = 10_000;
/// How long a room that nobody ever used lasts with nobody in it, in milliseconds: 24 h.
pub const UNUSED_ROOM_MS: i64 = 24 * 3_600_000;
/// Most rooms that end at once for that reason: the next ones wait for the next batch.
pub const MAX_UNUSED_AT_ONCE: usize = 256;
/// Most channels that one threshold names.
pub const MAX_CHANNELS: usize = 16;
/// Ended alerts that are remembered; the log has them all.
pub const MAX_ENDED_ALERTS: usize = 100;
/// Direct messages kept for an agent that is away (MXF notes §5).
pub const MAX_WAITING_DIRECT: usize = 1_000;
/// How long a direct message waits, in milliseconds: 7 days (MXF notes §5).
pub const WAITING_DIRECT_MS: i64 = 7 * 24 * 3_600_000;
/// How long a seat is kept for its owner to come back, in milliseconds: 24 h (MegaBot notes §7).
pub const SEAT_MS: i64 = 24 * 3_600_000;
/// Most rooms that one seat hears; each is part of the state and written anew whenever the seat is kept.
pub const MAX_SEAT_ROOMS: usize = 256;
/// Most connections that are remembered with a seat.
pub const MAX_SEAT_CONNECTIONS: usize = 16;
/// Most people who are invited to one room and have not come.
pub const MAX_INVITED: usize = 256;
/// Most secrets that open one seat: the newest, for clients that come back by one of before.
pub const MAX_SEAT_SECRETS: usize = 4;
/// Most seats of a workspace; beyond them the one kept longest ago is forgotten.
pub const MAX_SEATS: usize = 100_000;
/// Most blocks at the same time: with more attackers than that, the block that ends first makes room.
pub const MAX_BLOCKS: usize = 65_536;
/// Most nodes with a key of their own; beyond them the operator has to forget some.
pub const MAX_NODE_KEYS: usize = 10_000;
/// How much longer than its own life a revoked token is remembered, in milliseconds: a wall clock that was ahead by up to a
/// week when it was revoked brings it not back when it is set right.
pub const REVOKED_LONGER_MS: i64 = 7 * 24 * 3_600_000;
/// Most node ids that nodes of one network bind by themselves; the operator may bind more.
pub const MAX_NODE_KEYS_FROM: usize = 16;
/// How long a binding lasts that the operator has not approved, since it was proved last, in milliseconds: 30 days.
pub const NODE_KEY_MS: i64 = 30 * 24 * 3_600_000;
/// After how long it is noted that such a key was proved again, in milliseconds: a day.
pub const NODE_KEY_RENEWED_MS: i64 = 24 * 3_600_000;
/// How long the same client id gives the first result again, in milliseconds: 24 h (MegaBot notes §2).
pub const REPEAT_MS: i64 = 24 * 3_600_000;
