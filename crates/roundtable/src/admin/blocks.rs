//! Refusals in force, for the operator: whom a block or a limit keeps out, and ending those of an address before their time.

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
use crate::admin::asked::Asked;
use crate::admin::pages::PageQuery;
use crate::admin::{Office, Whole};
use crate::watch::{Standing, source_of};

/// Answer of `GET /blocks`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Blocks {
    /// By address.
    pub blocks: Vec<ListedBlock>,
    /// What the next page comes after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A refusal in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedBlock {
    /// Whose: an address, or a network of IPv6.
    pub address: String,
    /// At which listener; everywhere without one.
    pub listener: Option<String>,
    /// For which account alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Which rule it comes from: a kind of attack, or the setting whose limit is reached.
    pub attack_type: String,
    /// Its end, ISO 8601; none where it lasts as long as what it comes from.
    pub until: Option<String>,
}

/// Body and answer of `POST /blocks/lift`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Lift {
    /// An address as it is listed, or one of the listed network.
    pub address: String,
}

/// `GET /blocks`.
pub async fn list<O: Office>(
    Shared(admin): Whole<O>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let listed = |standing: Standing| ListedBlock {
        address: standing.address,
        listener: standing.listener,
        account: standing.account,
        attack_type: standing.rule,
        until: standing.until.map(iso),
    };
    // Pages are counted: a refusal has no id of its own.
    let passed = usize::try_from(asked.after_number()?.unwrap_or(0)).unwrap_or(usize::MAX);
    let refusals = admin.office.refusals().into_iter().skip(passed).map(listed);
    let (blocks, next) = asked.of(refusals, |_| String::new());
    let next = next.map(|_| passed.saturating_add(blocks.len()).to_string());
    Ok(json_response(200, &Blocks { blocks, next }))
}

/// `POST /blocks/lift`. What the address did is forgotten too: its next failure is its first.
pub async fn lift<O: Office>(Shared(admin): Whole<O>, bytes: Bytes) -> Result<Response, Refused> {
    let Lift { address } = body(&bytes)?;
    let source = address.parse::<IpAddr>().map_or(address, source_of);
    if !admin.office.refusals().iter().any(|standing| standing.address == source) {
        let error = Error::new(ErrorKind::InvalidField, format!("nothing keeps {source} out"));
        return Err(Refused { status: 404, error: error.field("address") });
    }
    // First what is not in the log yet, so that it does not get there behind this.
    admin.office.forgive(&source);
    admin.command(Command::LiftBlocks(source.clone())).await?;
    tracing::info!(source, "what kept an address out is lifted");
    Ok(json_response(200, &Lift { address: source }))
}
