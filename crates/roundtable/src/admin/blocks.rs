//! Blocks in force, for the operator: which there are, and ending those of an address before their time.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::Response;
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_dialects::iso::iso;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::answer::{Refused, body, json_response};
use crate::admin::{Office, Whole};
use crate::clock;
use crate::watch::source_of;

/// Answer of `GET /blocks`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Blocks {
    /// By address.
    pub blocks: Vec<ListedBlock>,
}

/// A block in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedBlock {
    /// Whose: an address, or a network of IPv6.
    pub address: String,
    /// At which listener; everywhere without one.
    pub listener: Option<String>,
    /// Which rule it comes from.
    pub attack_type: String,
    /// Its end, ISO 8601.
    pub until: String,
}

/// Body and answer of `POST /blocks/lift`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Lift {
    /// An address as it is listed, or one of the listed network.
    pub address: String,
}

/// `GET /blocks`.
pub async fn list<O: Office>(Shared(admin): Whole<O>) -> Response {
    let (state, now) = (admin.office.state(), clock::now());
    let blocks = state
        .blocks()
        .filter(|block| block.until > now)
        .map(|block| ListedBlock {
            address: block.notice.source.clone(),
            listener: block.notice.place.clone(),
            attack_type: block.notice.rule.clone(),
            until: iso(block.until),
        })
        .collect();
    json_response(200, &Blocks { blocks })
}

/// `POST /blocks/lift`. What the address did is forgotten too: its next failure is its first.
pub async fn lift<O: Office>(Shared(admin): Whole<O>, bytes: Bytes) -> Result<Response, Refused> {
    let Lift { address } = body(&bytes)?;
    let source = address.parse::<IpAddr>().map_or(address, source_of);
    if !admin.office.state().blocks().any(|block| block.notice.source == source) {
        let error = Error::new(ErrorKind::InvalidField, format!("{source} is not blocked"));
        return Err(Refused { status: 404, error: error.field("address") });
    }
    admin.command(Command::LiftBlocks(source.clone())).await?;
    admin.office.forgive(&source);
    Ok(json_response(200, &Lift { address: source }))
}
