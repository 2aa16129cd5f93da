//! Accounts and agents, by the operator.

use axum::body::Bytes;
use axum::response::Response;
use roundtable_core::agents::{AgentCard, AgentChanges, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, UserId};
use roundtable_core::users::{UserAdded, UserChanged};

use crate::admin::answer::{Refused, body, json_response};
use crate::admin::asked::Named;
use crate::admin::wire::{
    AddAgent, AddUser, AddedAgent, AddedUser, ChangeAgent, ChangeUser, ChangedAgent, ChangedUser,
    DrawnPassword,
};
use crate::admin::{Admin, Desk, Office};
use crate::auth::first_start::FirstCredentials;
use crate::auth::keys;

/// Shortest password of an account, in characters: anything shorter is guessed.
const SHORTEST_PASSWORD: usize = 8;

/// A password that may be an account's.
fn fit(password: String) -> Result<String, Error> {
    match password.chars().count() {
        SHORTEST_PASSWORD..=256 => Ok(password),
        _ => Err(Error::invalid("password", "must have 8 to 256 characters")),
    }
}

/// `POST /users`.
pub async fn add_user<O: Office>(Desk(admin): Desk<O>, bytes: Bytes) -> Result<Response, Refused> {
    let wanted: AddUser = body(&bytes)?;
    let user = UserId::new(&wanted.username)?;
    let drawn = wanted.password.is_none().then(keys::draw_secret);
    let password = fit(wanted.password.or_else(|| drawn.clone()).unwrap_or_default())?;
    let hash = admin.identifier.hashing().make(password).await?;
    let role = wanted.role;
    admin.command(Command::AddUser(UserAdded { user: user.clone(), role, password: Some(hash) })).await?;
    Ok(json_response(201, &AddedUser { username: user.to_string(), role, password: drawn }))
}

/// `PATCH /users/{name}`.
pub async fn change_user<O: Office>(
    Desk(admin): Desk<O>,
    Named(name): Named,
    bytes: Bytes,
) -> Result<Response, Refused> {
    let ChangeUser { role, password, disabled } = body(&bytes)?;
    let user = UserId::new(&name)?;
    let password = match password {
        Some(password) => Some(admin.identifier.hashing().make(fit(password)?).await?),
        None => None,
    };
    let renewed = password.is_some();
    admin.command(Command::ChangeUser(UserChanged { user, role, password, disabled })).await?;
    if renewed {
        // Chosen by somebody: it is nobody else's to write down.
        note_password(&admin, &name, String::new()).await;
    }
    Ok(json_response(200, &ChangedUser { username: name }))
}

/// `POST /users/{name}/password`: draws another one; the old one opens nothing from now on.
pub async fn draw_password<O: Office>(Desk(admin): Desk<O>, Named(name): Named) -> Result<Response, Refused> {
    let (user, password) = (UserId::new(&name)?, keys::draw_secret());
    let hash = admin.identifier.hashing().make(password.clone()).await?;
    let changed = UserChanged { user, role: None, password: Some(hash), disabled: None };
    admin.command(Command::ChangeUser(changed)).await?;
    note_password(&admin, &name, password.clone()).await;
    Ok(json_response(201, &DrawnPassword { username: name, password }))
}

/// The first account's password stands in `credentials.json`.
async fn note_password<O: Office>(admin: &Admin<O>, name: &str, password: String) {
    if !admin.office.is_default() {
        return;
    }
    let name = name.to_owned();
    let change = move |noted: &mut FirstCredentials| {
        if noted.admin.username == name {
            noted.admin.password = password;
        }
    };
    admin.note(change).await;
}

/// `DELETE /users/{name}`, with all its keys: whoever takes the name next is somebody else.
pub async fn remove_user<O: Office>(Desk(admin): Desk<O>, Named(name): Named) -> Result<Response, Refused> {
    admin.command(Command::RemoveUser(UserId::new(&name)?)).await?;
    Ok(json_response(200, &ChangedUser { username: name }))
}

/// `POST /agents`.
pub async fn add_agent<O: Office>(Desk(admin): Desk<O>, bytes: Bytes) -> Result<Response, Refused> {
    let wanted: AddAgent = body(&bytes)?;
    let agent = AgentId::new(&wanted.agent_id)?;
    let state = admin.office.state();
    match state.agent(&agent) {
        Some(known) if known.secret.is_some() => {
            let message = format!("agent {agent} exists already and has a secret; a new one is for rotate");
            return Err(Error::new(ErrorKind::Conflict, message).field("agent_id").into());
        }
        Some(_) => {}
        None => {
            let name = wanted.name.unwrap_or_else(|| agent.to_string());
            let card = AgentCard { name, ..AgentCard::default() };
            admin.command(Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card })).await?;
        }
    }
    give_secret(&admin, &agent).await
}

/// Draws a secret, the agent's only one from now on.
async fn give_secret<O: Office>(admin: &Admin<O>, agent: &AgentId) -> Result<Response, Refused> {
    let secret = keys::draw_secret();
    let hash = admin.identifier.hashing().make(secret.clone()).await?;
    admin.command(Command::SetAgentSecret(agent.clone(), hash)).await?;
    Ok(json_response(201, &AddedAgent { agent_id: agent.to_string(), secret }))
}

/// `POST /agents/{id}/secret`: the old secret opens nothing from now on, nor do tokens that were made before, and connections
/// that they opened end.
pub async fn rotate_agent<O: Office>(Desk(admin): Desk<O>, Named(id): Named) -> Result<Response, Refused> {
    give_secret(&admin, &AgentId::new(&id)?).await
}

/// `DELETE /agents/{id}`, with its keys, tokens and visitors: whoever takes the name next is somebody else.
pub async fn remove_agent<O: Office>(Desk(admin): Desk<O>, Named(id): Named) -> Result<Response, Refused> {
    let agent = AgentId::new(&id)?;
    admin.command(Command::RemoveAgent(agent, "removed by the operator".into())).await?;
    Ok(json_response(200, &ChangedAgent { agent_id: id }))
}

/// `PATCH /agents/{id}`.
pub async fn change_agent<O: Office>(
    Desk(admin): Desk<O>,
    Named(id): Named,
    bytes: Bytes,
) -> Result<Response, Refused> {
    let ChangeAgent { suspended } = body(&bytes)?;
    let changes = AgentChanges { suspended, ..AgentChanges::default() };
    admin.command(Command::UpdateAgent(AgentId::new(&id)?, changes)).await?;
    Ok(json_response(200, &ChangedAgent { agent_id: id }))
}
