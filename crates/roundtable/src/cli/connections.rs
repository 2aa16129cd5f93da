//! Commands about open connections.

use clap::Subcommand;
use serde_json::Value;

use crate::admin::connections::{Connections, ListedConnection, ListedSession};
use crate::cli::client::Failure;
use crate::cli::{Target, Terminal, changed, client, list};

#[derive(Subcommand, Debug)]
pub enum ConnectionsCommand {
    /// All of them, the oldest first: id, dialect, who, workspace, where from and in, since when, bytes that wait for it,
    /// whether it is behind, signals it lost.
    List,
    /// End a connection; its client is told to stay away.
    Close {
        /// Its id.
        id: u64,
    },
}

impl ConnectionsCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = client(target)?;
        match self {
            Self::List => {
                let all: Connections = client.all("/connections", "connections")?;
                list(terminal, target, &all, all.connections.iter().map(line))
            }
            Self::Close { id } => {
                let done: Value = client.ask("DELETE", &format!("/connections/{id}"), &Value::Null)?;
                changed(terminal, target, &done, &format!("connection {id} is ended"))
            }
        }
    }
}

fn line(connection: &ListedConnection) -> String {
    let session = |session: &ListedSession| {
        let who = session.principal.as_deref().unwrap_or("nobody yet");
        let place = session.workspace.as_ref().map(|place| format!(" in {place}")).unwrap_or_default();
        let namespace = session.namespace.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        format!("{}{namespace} {who}{place}", session.dialect)
    };
    let sessions: Vec<String> = connection.sessions.iter().map(session).collect();
    let sessions = if sessions.is_empty() { "no session".into() } else { sessions.join(", ") };
    let ListedConnection { id, peer, listener, since, queued_bytes, behind, lost, .. } = connection;
    let behind = if *behind { ", behind" } else { "" };
    let lost = if *lost > 0 { format!(", {lost} signals lost") } else { String::new() };
    format!(
        "{id}  {sessions}  from {peer} by {listener}  since {since}  {queued_bytes} bytes wait{behind}{lost}"
    )
}
