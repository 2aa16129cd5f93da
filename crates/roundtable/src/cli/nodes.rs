//! Commands about nodes: which key an id belongs to.

use clap::Subcommand;
use serde_json::json;

use crate::admin::nodes::{BindNode, BoundNode, BoundNodes};
use crate::cli::client::{Failure, encoded};
use crate::cli::{Target, Terminal, changed, client, list};

#[derive(Subcommand, Debug)]
pub enum NodeCommand {
    /// Node ids that belong to a key.
    List,
    /// Let a node get tokens with this key and no other: its first, or a new one. Tokens it has last until their end.
    Bind {
        /// Its id.
        id: String,
        /// Its Ed25519 key: 32 bytes in base64.
        public_key: String,
    },
    /// Forget the key of a node id.
    Forget {
        /// The id.
        id: String,
    },
}

impl NodeCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = client(target)?;
        match self {
            Self::List => {
                let found: BoundNodes = client.all("/nodes", "nodes")?;
                let line = |node: &BoundNode| {
                    let by = if node.approved { "approved" } else { "by itself" };
                    format!("{}\t{}\t{by}", node.node_id, node.public_key.as_deref().unwrap_or("-"))
                };
                list(terminal, target, &found, found.nodes.iter().map(line))
            }
            Self::Bind { id, public_key } => {
                let done: BoundNode =
                    client.ask("POST", "/nodes", &BindNode { node_id: id.clone(), public_key })?;
                changed(terminal, target, &done, &format!("node {id} has this key"))
            }
            Self::Forget { id } => {
                let done: BoundNode =
                    client.ask("DELETE", &format!("/nodes/{}", encoded(&id)), &json!({}))?;
                changed(terminal, target, &done, &format!("node {id} has no key"))
            }
        }
    }
}
