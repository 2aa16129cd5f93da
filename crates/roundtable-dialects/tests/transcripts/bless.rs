//! Writes into a transcript what came, with names where another run would find something else.

use std::collections::VecDeque;

use roundtable_dialects::transcript::{Got, Line, Names, Step, Theatre, act};

use crate::cast::Cast;

/// The transcript with its expectations rewritten: those that are met stay as they are.
pub fn rewritten(lines: &[Line], cast: &mut Cast, names: &mut Names) -> Result<String, String> {
    let mut text = String::new();
    let mut waiting: Vec<(String, VecDeque<Got>)> = Vec::new();
    for line in lines {
        match &line.step {
            Step::Expect(client, pattern) => {
                let queue = waiting.iter_mut().find(|(name, _)| name == client);
                let Some(got) = queue.and_then(|(_, queue)| queue.pop_front()) else { continue };
                if names.matches(pattern, &got.line()).is_ok() {
                    text.push_str(&line.text);
                } else {
                    text.push_str(&named(client, &got, names));
                }
            }
            Step::Nothing(_) if waiting.iter().any(|(_, queue)| !queue.is_empty()) => continue,
            Step::Remark | Step::Nothing(_) | Step::Skip(_) | Step::OverSockets(..) => {
                text.push_str(&line.text)
            }
            step => {
                rest(&mut text, &mut waiting, names);
                text.push_str(&line.text);
                act(step, cast, names).map_err(|why| format!("{}: {}\n  {why}", line.number, line.text))?;
                waiting = collected(cast);
            }
        }
        text.push('\n');
    }
    rest(&mut text, &mut waiting, names);
    Ok(text)
}

/// What came after the last expectation goes before the remarks and empty lines that introduce the next step.
fn rest(text: &mut String, waiting: &mut Vec<(String, VecDeque<Got>)>, names: &mut Names) {
    let introduces = |line: &str| line.trim().is_empty() || line.starts_with('#');
    let mut lines: Vec<&str> = text.lines().collect();
    let mut after = Vec::new();
    while lines.last().is_some_and(|line| introduces(line)) {
        after.extend(lines.pop().map(str::to_owned));
    }
    let mut whole: Vec<String> = lines.into_iter().map(str::to_owned).collect();
    for (client, queue) in waiting.drain(..) {
        whole.extend(queue.iter().map(|got| named(&client, got, names)));
    }
    whole.extend(after.into_iter().rev());
    *text = whole.into_iter().map(|line| line + "\n").collect();
}

fn collected(cast: &mut Cast) -> Vec<(String, VecDeque<Got>)> {
    let mut all = Vec::new();
    for client in cast.clients() {
        let mut queue = VecDeque::new();
        while let Some(got) = cast.next(&client) {
            queue.push_back(got);
        }
        all.push((client, queue));
    }
    all
}

/// An expectation of what came, with a name for every value that is drawn or read from a clock.
fn named(client: &str, got: &Got, names: &mut Names) -> String {
    let line = got.line();
    let (mut pattern, mut word) = (String::new(), String::new());
    for c in line.chars().chain(['\n']) {
        let colon = c == ':' && !word.is_empty();
        if c.is_ascii_alphanumeric() || ".-".contains(c) || colon {
            word.push(c);
            continue;
        }
        let key = ["\"sequence\":", "\"seq\":", "\"cursor\":\""].iter().any(|key| pattern.ends_with(key));
        match name_for(&word, key, names).filter(|name| takes(name, &word, names)) {
            Some(name) if c == '_' => pattern.push_str(&format!("${{{name}}}")),
            Some(name) => pattern.push_str(&format!("${name}")),
            None => pattern.push_str(&word),
        }
        word.clear();
        if c != '\n' {
            pattern.push(c);
        }
    }
    match names.matches(&pattern, &line) {
        Ok(()) => format!("{client} {pattern}"),
        Err(_) => format!("{client} {line}"),
    }
}

/// Whether a name can stand for a value; then it does.
fn takes(name: &str, value: &str, names: &mut Names) -> bool {
    let quote = if value.contains('T') { "\"" } else { "" };
    names.matches(&format!("{quote}${name}{quote}"), &format!("{quote}{value}{quote}")).is_ok()
}

/// The name of a value, if it is one that differs from run to run: `position` tells one in the log.
fn name_for(word: &str, position: bool, names: &Names) -> Option<String> {
    let hex = |text: &str, long: usize| text.len() == long && text.bytes().all(|b| b.is_ascii_hexdigit());
    let uuid = || word.len() == 36 && hex(&word.replace('-', ""), 32);
    let digits = |long: usize| word.len() == long && word.starts_with("17672") && !word.contains('.');
    let stem = match word {
        _ if position => "n",
        _ if word.len() < 8 => return None,
        // Ends of tokens are whole seconds, so two may be the same moment here and not in another run.
        _ if word.ends_with(".000Z") => "t",
        _ if names.name_of(word).is_some() => return names.name_of(word).map(str::to_owned),
        _ if hex(word, 24) || hex(word, 32) || hex(word, 16) || uuid() => "id",
        _ if word.starts_with("2026-01-0") || digits(13) || digits(10) => "t",
        _ if word.ends_with(".memory") => "token",
        _ => return None,
    };
    let free = |n: &usize| !names.known().any(|known| known == format!("{stem}{n}"));
    (1..).find(free).map(|n| format!("{stem}{n}"))
}
