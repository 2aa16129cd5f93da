//! Open connections, by the operator: seeing them, ending one.

use axum::extract::State as Shared;
use axum::response::Response;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::ConnectionId;
use roundtable_dialects::iso::iso;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::answer::{Refused, json_response};
use crate::admin::asked::{Asked, Named};
use crate::admin::pages::PageQuery;
use crate::admin::{Desk, Office, Whole};
use crate::transport::report::Listed;

/// Answer of `GET /connections`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    /// The oldest first.
    pub connections: Vec<ListedConnection>,
    /// What the next page comes after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An open connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedConnection {
    /// Its id.
    pub id: u64,
    /// How it is open.
    pub transport: Transport,
    /// The listener it came in by.
    pub listener: String,
    /// The client's address.
    pub peer: String,
    /// Since when it is open, ISO 8601.
    pub since: String,
    /// Bytes that wait for its client.
    pub queued_bytes: u64,
    /// It is behind: what it missed is read from the log as its client takes it.
    pub behind: bool,
    /// Signals, and news of comings and goings, that it did not get because its client reads too slowly.
    pub lost: u64,
    /// Its sessions: one, or one for each Socket.IO namespace.
    pub sessions: Vec<ListedSession>,
}

/// How a connection is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By a WebSocket.
    WebSocket,
    /// By requests that wait.
    Polling,
}

/// A session of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedSession {
    /// `mxf`, `aiwm`, `hive`, `open-agi` or `megabot`.
    pub dialect: String,
    /// The Socket.IO namespace.
    pub namespace: Option<String>,
    /// Who it is, `agent:ID`, `user:NAME`, `guest:NAME` or `node:ID`, once that is known.
    pub principal: Option<String>,
    /// Where, once that is known.
    pub workspace: Option<String>,
}

/// Answer of `DELETE /connections/{connection}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClosedConnection {
    /// Its id.
    pub id: u64,
}

/// `GET /connections`: of the whole server, or of the workspace that the query names.
pub async fn list<O: Office>(
    Desk(admin): Desk<O>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let after = asked.after_number()?;
    let only = asked.workspace.as_ref().map(|_| admin.office.workspace());
    let all = admin.office.connections(only).await.into_iter();
    let rest = all.filter(|listed| after.is_none_or(|after| listed.id.0 > after));
    let (connections, next) = asked.of(rest.map(shown), |connection| connection.id.to_string());
    Ok(json_response(200, &Connections { connections, next }))
}

fn shown(listed: Listed) -> ListedConnection {
    let sessions = listed.sessions.into_iter().map(|session| {
        let (principal, workspace) = session.who.unzip();
        ListedSession {
            dialect: session.dialect.into(),
            namespace: session.namespace,
            principal: principal.map(|who| who.to_string()),
            workspace: workspace.map(|place| place.to_string()),
        }
    });
    ListedConnection {
        id: listed.id.0,
        transport: if listed.websocket { Transport::WebSocket } else { Transport::Polling },
        listener: listed.listener.to_string(),
        peer: listed.peer.to_string(),
        since: iso(listed.since),
        queued_bytes: listed.queued_bytes as u64,
        behind: listed.behind,
        lost: listed.lost,
        sessions: sessions.collect(),
    }
}

/// `DELETE /connections/{connection}`.
pub async fn close<O: Office>(Shared(admin): Whole<O>, Named(id): Named) -> Result<Response, Refused> {
    let id: u64 = id.parse().map_err(|_| Error::invalid("connection", "must be a number"))?;
    if admin.office.close(ConnectionId(id)).await {
        return Ok(json_response(200, &ClosedConnection { id }));
    }
    let error = Error::new(ErrorKind::InvalidField, format!("there is no connection {id}"));
    Err(Refused { status: 404, error: error.field("connection") })
}
