//! Commands about the log as a whole: checking it, copying it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::admin::renewal::AdminToken;
use crate::admin::settings::{Setting, Settings};
use crate::admin::wire::{Backup, Verification};
use crate::auth::first_start::CREDENTIALS;
use crate::cli::client::Failure;
use crate::cli::{Target, Terminal, changed, client, done, list, show};

/// Fails with the first broken record of every workspace that has one.
pub(super) fn verify(target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let found: Verification = client(target)?.patient().ask("POST", "/verify", &json!({}))?;
    let (mut words, mut broken) = (Vec::new(), Vec::new());
    for checked in &found.workspaces {
        let double = |id: &String| {
            format!("workspace {}: {id} is the name of several; they keep working", checked.workspace)
        };
        words.extend(checked.doubles.iter().map(double));
        let line = format!("workspace {}: {} records are sound", checked.workspace, checked.sound);
        if let Some(wrong) = &checked.broken {
            broken.push(format!("{line}, record {} is not: {}", wrong.offset, wrong.reason));
        } else {
            words.push(line);
        }
    }
    if target.json || !words.is_empty() {
        show(terminal, target, &found, &words.join("\n"))?;
    }
    if broken.is_empty() { Ok(()) } else { Err(Failure::Refused(broken.join("\n"))) }
}

#[derive(Args, Debug)]
pub struct BackupArgs {
    /// The file to make, on the server's machine; it must not exist.
    file: PathBuf,
}

pub(super) fn backup(args: &BackupArgs, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let unusable = |what: &str| Failure::Refused(format!("{}: {what}", args.file.display()));
    let file = std::path::absolute(&args.file).map_err(|error| unusable(&error.to_string()))?;
    let file = file.into_os_string().into_string().map_err(|_| unusable("is not UTF-8"))?;
    let done: Backup = client(target)?.patient().ask("POST", "/backup", &Backup { file })?;
    changed(terminal, target, &done, &format!("copied to {}", done.file))
}

/// Draws a new admin token.
pub(super) fn admin_token(target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let client = client(target)?;
    let shown = AdminToken { admin_token: client.token().to_owned() };
    let new: AdminToken = client.ask("POST", "/admin-token", &shown)?;
    let ends = "the old one opens nothing any more; nobody's connection ends";
    let words = format!("admin token {}: {ends}", new.admin_token);
    let lost = format!("there is a new admin token, noted in {CREDENTIALS} where that is kept; {ends}");
    done(terminal, target, (&new, &words), &lost)
}

/// Shows the settings in force.
pub(super) fn settings(target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let all: Settings = client(target)?.ask("GET", "/settings", &Value::Null)?;
    let line = |setting: &Setting| {
        let mark = if setting.changed { "  # changed" } else { "" };
        format!("{} = {}{mark}", setting.name, setting.value)
    };
    list(terminal, target, &all, all.settings.iter().map(line))
}
