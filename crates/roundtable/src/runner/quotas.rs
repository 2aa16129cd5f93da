//! What may be written and kept: so much by each principal, and so much in a workspace altogether.

use std::collections::HashMap;

use roundtable_core::engine::Decision;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::RECORD_BYTES;
use roundtable_core::holdings::Ceilings;
use roundtable_core::ids::Principal;
use roundtable_core::time::Time;

const MINUTE_MS: i64 = 60_000;

/// Limits on what the log takes, and on what stays in the state.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// What one workspace may take on the disk, in bytes.
    pub workspace: u64,
    /// What one principal may write in a minute, in bytes.
    pub per_minute: u64,
    /// How many rooms, agents and so on there may be.
    pub ceilings: Ceilings,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { workspace: 256 << 30, per_minute: 256 << 20, ceilings: Ceilings::default() }
    }
}

/// What principals wrote of late: a bucket each, which empties itself within a minute.
#[derive(Debug, Default)]
pub struct Written {
    by: HashMap<Principal, (u64, Time)>,
    swept_at: Time,
}

impl Written {
    /// Lets a decision be written, or says why not; `held` is what the workspace has. Gives what it counts for. The server
    /// itself, and what carries nothing of a client's, is never refused.
    pub fn admit(
        &mut self,
        quotas: &Quotas,
        (who, decision): (&Principal, &Decision),
        (held, now): (u64, Time),
    ) -> Result<u64, Error> {
        let said: u64 = decision.events.iter().map(|(_, event)| event.said_bytes()).sum();
        let bytes = said + RECORD_BYTES * decision.events.len() as u64;
        if *who == Principal::System || bytes == 0 {
            return Ok(0);
        }
        if said > 0 && held.saturating_add(bytes) > quotas.workspace {
            let message = format!("the workspace has used up its {} bytes on the disk", quotas.workspace);
            return Err(Error::new(ErrorKind::QuotaExceeded, message).field("disk"));
        }
        self.sweep(now);
        let (before, at) = self.by.get(who).copied().unwrap_or((0, now));
        let passed = u64::try_from(now.since(at)).unwrap_or(0);
        let emptied = u128::from(quotas.per_minute) * u128::from(passed) / MINUTE_MS as u128;
        let level = before.saturating_sub(u64::try_from(emptied).unwrap_or(u64::MAX));
        let over = level.saturating_add(bytes).saturating_sub(quotas.per_minute);
        if said > 0 && over > 0 {
            let wait = u128::from(over) * MINUTE_MS as u128 / u128::from(quotas.per_minute.max(1));
            let message = format!("more than {} bytes written in a minute", quotas.per_minute);
            let mut error = Error::new(ErrorKind::RateLimited, message);
            error.retry_after_ms = Some(u64::try_from(wait).unwrap_or(u64::MAX).max(1));
            error.limit = u32::try_from(quotas.per_minute).ok();
            return Err(error);
        }
        self.by.insert(who.clone(), (level.saturating_add(bytes), now));
        Ok(bytes)
    }

    /// Gives back what was not written after all.
    pub fn give_back(&mut self, who: &Principal, bytes: u64) {
        if let Some((level, _)) = self.by.get_mut(who) {
            *level = level.saturating_sub(bytes);
        }
    }

    /// Now and then forgets those whose buckets are empty again.
    fn sweep(&mut self, now: Time) {
        if now.since(self.swept_at) > 2 * MINUTE_MS {
            self.by.retain(|_, (_, at)| now.since(*at) <= MINUTE_MS);
            self.swept_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use roundtable_core::command::Command;
    use roundtable_core::engine::{Context, decide};
    use roundtable_core::ids::{AgentId, RoomId};
    use roundtable_core::rooms::{CreateRoom, RoomCard};
    use roundtable_core::state::State;

    use super::*;

    /// Somebody makes a room with a description of so many bytes.
    fn made(bytes: usize) -> (Principal, Decision) {
        let who = Principal::Agent(AgentId::new("a").unwrap());
        let card = RoomCard { description: "x".repeat(bytes), ..RoomCard::default() };
        let command = Command::CreateRoom(CreateRoom { room: RoomId::new("r").ok(), card });
        let (actor, by) = (who.clone(), who.clone());
        let ctx = Context { now: Time(0), at: Time(0), actor, by, connection: None, random: 1, client: None };
        (who, decide(&State::default(), &command, &ctx).unwrap())
    }

    #[test]
    fn who_writes_too_much_is_told_when_there_is_room_again() {
        let quotas = Quotas { workspace: 1 << 30, per_minute: 20_000, ..Quotas::default() };
        let (who, decision) = made(10_000);
        let mut written = Written::default();
        let write = |written: &mut Written, at| written.admit(&quotas, (&who, &decision), (0, Time(at)));
        let bytes = write(&mut written, 0).unwrap();
        assert!((10_000..12_000).contains(&bytes));
        let refused = write(&mut written, 0).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::RateLimited);
        let wait = refused.retry_after_ms.unwrap() as i64;
        assert!(write(&mut written, wait - 10).is_err());
        assert!(write(&mut written, wait + 1).is_ok());
        written.give_back(&who, bytes);
        assert!(write(&mut written, wait + 2).is_ok(), "it was not written after all");
    }

    #[test]
    fn a_full_workspace_takes_nothing_but_comings_and_goings_and_what_the_server_says() {
        let quotas = Quotas { workspace: 50_000, per_minute: 1 << 30, ..Quotas::default() };
        let (who, decision) = made(100);
        let mut written = Written::default();
        let mut write = |who: &Principal, decision: &Decision, held| {
            written.admit(&quotas, (who, decision), (held, Time(0))).map_err(|error| error.kind)
        };
        assert!(write(&who, &decision, 0).is_ok());
        assert_eq!(write(&who, &decision, 50_000), Err(ErrorKind::QuotaExceeded));
        assert_eq!(write(&Principal::System, &decision, 50_000), Ok(0));
        let mut going = decision.clone();
        going.events.retain(|(_, event)| event.said_bytes() == 0);
        assert!(!going.events.is_empty() && write(&who, &going, 50_000).is_ok());
    }
}
