//! Every path and method of the operator's interface: one table, from which the routes are mounted and the document is written.

use std::sync::Arc;

use axum::handler::Handler;
use axum::routing::{MethodRouter, on};
use serde_json::json;

use crate::admin::blocks::{Blocks, Lift};
use crate::admin::connections::{ClosedConnection, Connections};
use crate::admin::nodes::{BindNode, BoundNode, BoundNodes};
use crate::admin::openapi::Call;
use crate::admin::openapi::Verb::{Delete, Get, Patch, Post};
use crate::admin::records::Seen;
use crate::admin::renewal::{AdminToken, RenewDomainKey, RenewedDomainKey};
use crate::admin::settings::Settings;
use crate::admin::wire::{
    AddAgent, AddKey, AddRoom, AddUser, AddWorkspace, AddedAgent, AddedKey, AddedRoom, AddedUser,
    AddedWorkspace, Agents, Backup, ChangeAgent, ChangeUser, ChangedAgent, ChangedUser, DrawnPassword,
    History, IssueToken, IssuedToken, Keys, ListedWorkspaces, RevokeToken, RevokedKey, RevokedToken, Rooms,
    SendMessage, SentMessage, ShownRoom, Users, Verification,
};
use crate::admin::{
    Admin, Office, blocks, connections, keeping, lists, nodes, people, renewal, rooms, settings, tokens,
    workspaces,
};

/// A call and what answers it.
pub type Mounted<O> = (Call, MethodRouter<Arc<Admin<O>>>);

fn mount<O: Office, H: Handler<T, Arc<Admin<O>>>, T: 'static>(call: Call, handler: H) -> Mounted<O> {
    let route = on(call.verb.filter(), handler);
    (call, route)
}

/// All of it.
pub fn table<O: Office>() -> Vec<Mounted<O>> {
    accounts().into_iter().chain(credentials()).chain(in_rooms()).chain(of_server()).collect()
}

fn accounts<O: Office>() -> Vec<Mounted<O>> {
    vec![
        mount(Call::new(Get, "/users", "All accounts.").pages().answers::<Users>(200), lists::users::<O>),
        mount(
            Call::new(Post, "/users", "Make an account.")
                .takes::<AddUser>()
                .answers::<AddedUser>(201)
                .refuses(409),
            people::add_user::<O>,
        ),
        mount(
            Call::new(Patch, "/users/{name}", "Change an account.")
                .takes::<ChangeUser>()
                .answers::<ChangedUser>(200),
            people::change_user::<O>,
        ),
        mount(
            Call::new(Delete, "/users/{name}", "Remove an account and its keys.").answers::<ChangedUser>(200),
            people::remove_user::<O>,
        ),
        mount(
            Call::new(Post, "/users/{name}/password", "Draw a new password; the old one ends.")
                .answers::<DrawnPassword>(201),
            people::draw_password::<O>,
        ),
        mount(Call::new(Get, "/agents", "All agents.").pages().answers::<Agents>(200), lists::agents::<O>),
        mount(
            Call::new(Post, "/agents", "Make an agent known and give it a secret.")
                .takes::<AddAgent>()
                .answers::<AddedAgent>(201)
                .refuses(409),
            people::add_agent::<O>,
        ),
        mount(
            Call::new(Patch, "/agents/{id}", "Suspend an agent, or let it in again.")
                .takes::<ChangeAgent>()
                .answers::<ChangedAgent>(200),
            people::change_agent::<O>,
        ),
        mount(
            Call::new(Delete, "/agents/{id}", "Remove an agent and its keys.").answers::<ChangedAgent>(200),
            people::remove_agent::<O>,
        ),
        mount(
            Call::new(Post, "/agents/{id}/secret", "Draw a new secret; the old one ends.")
                .answers::<AddedAgent>(201),
            people::rotate_agent::<O>,
        ),
    ]
}

fn credentials<O: Office>() -> Vec<Mounted<O>> {
    vec![
        mount(Call::new(Get, "/keys", "All keys.").pages().answers::<Keys>(200), lists::keys::<O>),
        mount(
            Call::new(Post, "/keys", "Make an API key of a user, or a channel key of an agent in a room.")
                .takes::<AddKey>()
                .either(&[&["user"], &["agent", "room"]])
                .answers::<AddedKey>(201),
            tokens::add_key::<O>,
        ),
        mount(
            Call::new(Delete, "/keys/{id}", "Make a key worthless.").answers::<RevokedKey>(200),
            tokens::revoke_key::<O>,
        ),
        mount(
            Call::new(Post, "/tokens", "Sign a token.")
                .takes::<IssueToken>()
                .either(&[&["user"], &["agent"], &["node"]])
                .answers::<IssuedToken>(201)
                .refuses(409),
            tokens::issue::<O>,
        ),
        mount(
            Call::new(Post, "/domain-key", "Draw a new domain key of a workspace; the old one ends.")
                .takes::<RenewDomainKey>()
                .answers::<RenewedDomainKey>(201),
            renewal::domain_key::<O>,
        ),
        mount(
            Call::of_server(
                Post,
                "/admin-token",
                "Draw a new admin token; the old one, shown once more, ends.",
            )
            .takes::<AdminToken>()
            .answers::<AdminToken>(201),
            renewal::admin_token::<O>,
        ),
        mount(
            Call::of_server(Post, "/tokens/revoke", "Make a token worthless.")
                .takes::<RevokeToken>()
                .answers::<RevokedToken>(200)
                .refuses(404),
            tokens::revoke::<O>,
        ),
    ]
}

fn in_rooms<O: Office>() -> Vec<Mounted<O>> {
    let pages = json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 50});
    vec![
        mount(Call::new(Get, "/rooms", "All rooms.").pages().answers::<Rooms>(200), lists::rooms::<O>),
        mount(
            Call::new(Post, "/rooms", "Make a room.")
                .takes::<AddRoom>()
                .answers::<AddedRoom>(201)
                .refuses(409),
            rooms::add::<O>,
        ),
        mount(
            Call::new(Get, "/rooms/{id}", "A room's settings, members and counts.")
                .pages()
                .answers::<ShownRoom>(200),
            rooms::show::<O>,
        ),
        mount(
            Call::new(Delete, "/rooms/{id}", "Remove a room and its keys; what was said stays in the log.")
                .answers::<AddedRoom>(200),
            rooms::remove::<O>,
        ),
        mount(
            Call::new(Get, "/rooms/{id}/messages", "What was said in a room, oldest first.")
                .cursor("before", "Only what is before this cursor.")
                .query("limit", "At most so many, the newest.", &pages)
                .answers::<History>(200)
                .refuses(410),
            rooms::history::<O>,
        ),
        mount(
            Call::new(Post, "/rooms/{id}/messages", "Say something; who speaks becomes a member.")
                .takes::<SendMessage>()
                .answers::<SentMessage>(201)
                .refuses(409),
            rooms::send::<O>,
        ),
        mount(
            Call::new(Get, "/tail", "Records as they come, a line of JSON for each, until the client goes.")
                .query("room", "Only this room.", &json!({"type": "string"}))
                .cursor("since", "Begin after this cursor; without it with what comes from now on.")
                .lines::<Seen>()
                .refuses(410),
            rooms::tail::<O>,
        ),
    ]
}

fn of_server<O: Office>() -> Vec<Mounted<O>> {
    vec![
        mount(
            Call::of_server(Get, "/workspaces", "All workspaces.").pages().answers::<ListedWorkspaces>(200),
            workspaces::list::<O>,
        ),
        mount(
            Call::of_server(Post, "/workspaces", "Make a workspace with a domain key of its own.")
                .takes::<AddWorkspace>()
                .answers::<AddedWorkspace>(201)
                .refuses(409),
            workspaces::add::<O>,
        ),
        mount(
            Call::of_server(Get, "/settings", "The settings in force.").answers::<Settings>(200),
            settings::list::<O>,
        ),
        mount(
            Call::new(Get, "/connections", "Open connections, of one workspace or of all.")
                .pages()
                .answers::<Connections>(200),
            connections::list::<O>,
        ),
        mount(
            Call::of_server(Delete, "/connections/{connection}", "End a connection for good.")
                .answers::<ClosedConnection>(200)
                .refuses(404),
            connections::close::<O>,
        ),
        mount(
            Call::new(Get, "/nodes", "Node ids that belong to a key.").pages().answers::<BoundNodes>(200),
            nodes::list::<O>,
        ),
        mount(
            Call::new(Post, "/nodes", "Bind a node id to a key, its first or a new one.")
                .takes::<BindNode>()
                .answers::<BoundNode>(200)
                .refuses(409),
            nodes::bind::<O>,
        ),
        mount(
            Call::new(Delete, "/nodes/{id}", "Forget the key of a node id.").answers::<BoundNode>(200),
            nodes::forget::<O>,
        ),
        mount(
            Call::of_server(Get, "/blocks", "Addresses that are kept out, by a security rule or a limit.")
                .pages()
                .answers::<Blocks>(200),
            blocks::list::<O>,
        ),
        mount(
            Call::of_server(Post, "/blocks/lift", "End what keeps an address out.")
                .takes::<Lift>()
                .answers::<Lift>(200)
                .refuses(404),
            blocks::lift::<O>,
        ),
        mount(
            Call::new(Post, "/verify", "Check the log of one workspace or of all.")
                .answers::<Verification>(200),
            keeping::verify::<O>,
        ),
        mount(
            Call::of_server(Post, "/backup", "Copy the log into a new file.")
                .takes::<Backup>()
                .answers::<Backup>(201)
                .refuses(409),
            keeping::backup::<O>,
        ),
    ]
}
