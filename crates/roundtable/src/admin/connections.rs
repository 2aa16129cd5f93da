//! Open connections, by the operator: seeing them, ending one.

use axum::extract::{Path, Query};
use axum::response::Response;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::ConnectionId;
use roundtable_dialects::iso::iso;
use serde_json::json;

use crate::admin::answer::{Refused, json_response};
use crate::admin::wire::{Connections, ListedConnection, ListedSession, OnlyWorkspace, Transport};
use crate::admin::{Desk, Office};
use crate::transport::report::Listed;

/// `GET /connections`: of the whole server, or of the workspace that the query names.
pub async fn list<O: Office>(
    Desk(admin): Desk<O>,
    Query(OnlyWorkspace { workspace }): Query<OnlyWorkspace>,
) -> Response {
    let only = workspace.map(|_| admin.office.workspace());
    let connections = admin.office.connections(only).await.into_iter().map(shown).collect();
    json_response(200, &Connections { connections })
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
        sessions: sessions.collect(),
    }
}

/// `DELETE /connections/{id}`.
pub async fn close<O: Office>(Desk(admin): Desk<O>, Path(id): Path<u64>) -> Result<Response, Refused> {
    if admin.office.close(ConnectionId(id)).await {
        return Ok(json_response(200, &json!({"id": id})));
    }
    let error = Error::new(ErrorKind::InvalidField, format!("there is no connection {id}"));
    Err(Refused { status: 404, error: error.field("id") })
}
