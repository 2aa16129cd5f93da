//! Finding a message by its id, in whichever room it was said, for all who ask for one.

use std::sync::Arc;

use roundtable_core::access;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{MessageId, Principal, WorkspaceId};

use super::View;
use crate::log::Log;

/// The message with this id, if it was not taken back and `who` may read the room it was said in. Reads the disk on a thread
/// for such things.
pub async fn message(
    log: &Arc<dyn Log>,
    (workspace, view): (&WorkspaceId, &View),
    who: &Principal,
    id: &MessageId,
) -> Result<Option<Record>, Error> {
    let is_it = |record: &&Arc<Record>| matches!(&record.event, Event::MessagePosted(said) if said.id == *id);
    let found = match view.unsynced.iter().find(is_it) {
        Some(record) => Some((**record).clone()),
        None => {
            let (log, workspace, id) = (Arc::clone(log), workspace.clone(), id.clone());
            let found = tokio::task::spawn_blocking(move || log.find_message(&workspace, &id)).await;
            found.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Internal, "a message could not be looked up"))
            })?
        }
    };
    let state = &view.state;
    let shown = |record: &Record| {
        let room = record.room.as_ref().and_then(|id| state.room(id));
        room.is_some_and(|room| access::may_read_room(state, room, who)) && !state.is_deleted(record)
    };
    Ok(found.filter(shown))
}
