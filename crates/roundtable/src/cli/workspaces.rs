//! Commands about workspaces.

use clap::Subcommand;
use serde_json::Value;

use crate::admin::wire::{AddWorkspace, AddedWorkspace, ListedWorkspace, ListedWorkspaces};
use crate::cli::client::Failure;
use crate::cli::{Target, Terminal, client, list, show};

#[derive(Subcommand, Debug)]
pub enum WorkspaceCommand {
    /// Make a workspace with a domain key of its own, shown once.
    Add {
        /// Its name.
        name: String,
    },
    /// All workspaces.
    List,
}

impl WorkspaceCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = client(target)?;
        match self {
            Self::Add { name } => {
                let body = AddWorkspace { workspace: name };
                let added: AddedWorkspace = client.ask("POST", "/workspaces", &body)?;
                let words = format!("workspace {} with domain key {}", added.workspace, added.domain_key);
                show(terminal, target, &added, &words)
            }
            Self::List => {
                let all: ListedWorkspaces = client.ask("GET", "/workspaces", &Value::Null)?;
                let line = |one: &ListedWorkspace| {
                    let default = if one.default { "  default" } else { "" };
                    let ListedWorkspace { workspace, users, agents, rooms, .. } = one;
                    format!("{workspace}  {users} users  {agents} agents  {rooms} rooms{default}")
                };
                list(terminal, target, &all, all.workspaces.iter().map(line))
            }
        }
    }
}
