//! Words of the core that stand in the interface, as schemas: the core itself knows of no document.

use roundtable_core::agents::AgentStatus;
use roundtable_core::rooms::{Durability, Entry, RoomStatus};
use roundtable_core::users::UserRole;
use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

fn one_of(all: &[impl Serialize]) -> Schema {
    let words = all.iter().map(|word| serde_json::to_value(word).unwrap_or_default());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
}

/// What a user may do.
pub fn roles() -> Schema {
    one_of(&[UserRole::Viewer, UserRole::Editor, UserRole::Owner])
}

/// What an agent is doing.
pub fn statuses() -> Schema {
    use AgentStatus::{Away, Busy, Failed, Offline, Online, Paused};
    one_of(&[Online, Busy, Away, Offline, Paused, Failed])
}

/// How much a room promises.
pub fn durabilities() -> Schema {
    one_of(&[Durability::Durable, Durability::Relaxed, Durability::Ephemeral])
}

/// Whether a room takes messages.
pub fn room_statuses() -> Schema {
    one_of(&[RoomStatus::Active, RoomStatus::Archived, RoomStatus::Closed])
}

/// Who may come into a room.
pub fn entries() -> Schema {
    one_of(&[Entry::Open, Entry::Members, Entry::Private])
}
