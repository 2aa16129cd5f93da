//! Bodies of requests: how much of one is read, from whom, in which time, and how much of all of them stands in memory.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use super::super::Settings;
use super::pace::Pace;
use crate::shares::{Share, Shares};
use crate::transport::turn::is_life;

/// Silence after which nobody waits any more for the rest of a body that is thrown away.
const SILENCE: Duration = Duration::from_secs(1);
/// Shares are counted in so many bytes.
const UNIT: usize = 1 << 10;
/// A body of this length at most waits for nobody: logins are that small, and half of one costs less than half a head.
const SMALL: usize = 4 << 10;
/// One address gets this part of all memory for bodies.
const PART: u32 = 4;
/// What some programs write before JSON.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why the body of a request was left out (a request extension).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// It is larger than the server reads there.
    TooLarge,
    /// It is larger than the server reads of somebody who has not shown who it is.
    Unproven,
    /// It did not come whole in the time that one may take.
    TooSlow,
    /// It is compressed or otherwise encoded.
    Encoded,
    /// There was no memory for it in time.
    Busy,
    /// The client went, or what it sent is no body.
    Cut,
}

/// How much of a body is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// Bytes.
    pub limit: usize,
    /// Its sender has shown a good credential in the head of the request, or needs none.
    pub proven: bool,
}

/// Memory for bodies. Who has not shown who it is has a part of its own, so that strangers stand in nobody else's way.
#[derive(Debug)]
pub struct Memory {
    proven: Arc<Shares>,
    strangers: Arc<Shares>,
}

impl Memory {
    /// By the settings.
    pub fn of(settings: &Settings) -> Self {
        let units = |bytes: usize| u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let all = units(settings.bodies);
        let largest = units(settings.max_body.max(settings.engine.max_payload));
        let strangers = all / PART;
        Self {
            proven: Shares::new(all, (all / PART).max(largest)),
            strangers: Shares::new(strangers, (strangers / PART).max(units(settings.stranger_body))),
        }
    }

    async fn for_one(&self, address: IpAddr, reach: Reach, bytes: usize) -> Option<Share> {
        let shares = if reach.proven { &self.proven } else { &self.strangers };
        shares.take(address, u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)).await
    }
}

/// Reads a body as far as it reaches, in the time that one may take; it stands in memory until its share is dropped. One that
/// is said to be larger is not begun with: the client that asks whether to send it is not told to.
pub async fn read(
    memory: &Memory,
    (settings, address): (&Settings, IpAddr),
    (headers, body): (&HeaderMap, Incoming),
    reach: Reach,
    pace: &Pace,
) -> Result<(Bytes, Option<Share>), Unread> {
    let patience = Duration::from_millis(if reach.proven {
        settings.body_patience
    } else {
        settings.body_patience.min(settings.patience)
    });
    let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let refusal = if least > reach.limit {
        Some(if reach.proven || least > settings.max_body { Unread::TooLarge } else { Unread::Unproven })
    } else {
        encoded(headers).then_some(Unread::Encoded).filter(|_| !body.is_end_stream())
    };
    if let Some(refusal) = refusal {
        if !headers.contains_key(header::EXPECT) {
            tokio::task::spawn_local(tokio::time::timeout(patience, discard(body)));
        }
        return Err(refusal);
    }
    if body.is_end_stream() {
        return Ok((Bytes::new(), None));
    }
    let most = body.size_hint().upper().and_then(|most| usize::try_from(most).ok()).unwrap_or(reach.limit);
    let most = most.min(reach.limit);
    let share = if most <= SMALL {
        None
    } else {
        let share = tokio::time::timeout(patience, memory.for_one(address, reach, most)).await;
        Some(share.ok().flatten().ok_or(Unread::Busy)?)
    };
    let arrived = Cell::new(0);
    let body = Limited::new(body, reach.limit).map_frame(|frame| {
        arrived.set(arrived.get() + frame.data_ref().map_or(0, Bytes::len));
        frame
    });
    tokio::select! {
        biased;
        whole = body.collect() => match whole {
            Ok(body) => Ok((without_mark(body.to_bytes()), share)),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(if reach.proven { Unread::TooLarge } else { Unread::Unproven })
            }
            Err(_) => Err(Unread::Cut),
        },
        () = pace.ended() => Err(Unread::Cut),
        () = too_slow(&arrived, patience, reach.proven) => Err(Unread::TooSlow),
    }
}

/// Comes back when the time for a body is up: for somebody known when it went on too slowly for so long, for anybody else at
/// once.
async fn too_slow(arrived: &Cell<usize>, patience: Duration, proven: bool) {
    loop {
        tokio::time::sleep(patience).await;
        if !proven || !is_life(arrived.take(), patience) {
            return;
        }
    }
}

fn encoded(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    values.into_iter().any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

fn without_mark(body: Bytes) -> Bytes {
    if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body }
}

/// Throws away what still comes of a body: closed at once, with bytes unread, the connection would take the refusal with it.
async fn discard(mut body: Incoming) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(SILENCE, body.frame()).await {}
}
