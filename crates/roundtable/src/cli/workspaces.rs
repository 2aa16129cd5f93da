//! Commands about workspaces.

use clap::Subcommand;
use serde_json::json;

use crate::admin::renewal::RenewedDomainKey;
use crate::admin::wire::{AddWorkspace, AddedWorkspace, ListedWorkspace, ListedWorkspaces};
use crate::cli::client::{Failure, encoded};
use crate::cli::{Target, Terminal, client, done, list};

#[derive(Subcommand, Debug)]
pub enum WorkspaceCommand {
    /// Make a workspace with a domain key of its own, shown once.
    Add {
        /// Its name.
        name: String,
    },
    /// Draw a new domain key, shown once. Who comes with the old one is not let in any more; who is in stays.
    Rotate {
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
                let lost = format!(
                    "workspace {0} is made, its domain key is lost: `workspace rotate {0}` draws another one",
                    added.workspace
                );
                done(terminal, target, (&added, &words), &lost)
            }
            Self::Rotate { name } => {
                let path = format!("/domain-key?workspace={}", encoded(&name));
                let renewed: RenewedDomainKey = client.ask("POST", &path, &json!({}))?;
                let ends = "who comes with the old one is not let in any more; who is in stays";
                let words = format!("workspace {name} with domain key {}: {ends}", renewed.domain_key);
                let lost =
                    format!("workspace {name} has a new domain key, which is lost: draw another one; {ends}");
                done(terminal, target, (&renewed, &words), &lost)
            }
            Self::List => {
                let all: ListedWorkspaces = client.all("/workspaces", "workspaces")?;
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
