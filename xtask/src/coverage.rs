//! Event coverage: every event of an API document occurs in a transcript, or is a known gap with a reason.
//!
//! Under `conformance/<dialect>/`: `events.txt` has one `in NAME` (client to server) or `out NAME` (server to client)
//! per line, `known-gaps.txt` one `in NAME REASON` or `out NAME REASON`, and every other `.txt` is a transcript with
//! lines `alice > frame` (in) and `bob < frame` (out). An event occurs where its name stands in double quotes as a
//! value, not as a key.
//! Empty lines and lines that begin with `#` are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::steps::root;
use crate::tidy::DIALECTS;
use crate::tree::Tree;

/// A documented event: whether it goes `in` or `out`, and its name.
type Event<'a> = (&'a str, &'a str);

/// `cargo x coverage`: the counts per dialect, or what is wrong. With `--prune`, gaps that are covered are dropped first.
pub fn command(args: &[String]) -> Result<(), String> {
    let root = root()?;
    match args {
        [] => {}
        [only] if only == "--prune" => prune(&root)?,
        _ => return Err("coverage takes only --prune".to_owned()),
    }
    check(&root)
}

/// Prints the counts per dialect; an error lists every event that is neither shown nor excused, and every false excuse.
pub fn check(root: &Path) -> Result<(), String> {
    let tree = Tree::read(root)?;
    let mut findings = Vec::new();
    for dialect in DIALECTS {
        let (shown, all) = coverage(&tree, dialect.folder, &mut findings);
        println!("{:10} {shown} of {all} events in transcripts", dialect.folder);
    }
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

/// Adds what is wrong with one dialect to `findings`; gives (events in transcripts, events in the documents).
fn coverage(tree: &Tree, folder: &str, findings: &mut Vec<String>) -> (usize, usize) {
    let (list, gap_list) =
        (format!("conformance/{folder}/events.txt"), format!("conformance/{folder}/known-gaps.txt"));
    let mut events = BTreeSet::new();
    for (number, line) in lines(tree, &list) {
        match columns(line) {
            Some((event, "")) if events.insert(event) => {}
            Some((_, "")) => findings.push(format!("{list}:{number}: listed twice: {line}")),
            _ => findings.push(format!("{list}:{number}: not `in NAME` or `out NAME`: {line}")),
        }
    }
    if events.is_empty() {
        findings.push(format!("{list}: lists no event"));
    }
    let mut gaps = BTreeMap::new();
    for (number, line) in lines(tree, &gap_list) {
        match columns(line) {
            Some((_, "")) => findings.push(format!("{gap_list}:{number}: a gap needs a reason: {line}")),
            Some((event, _)) if !events.contains(&event) => {
                findings.push(format!("{gap_list}:{number}: not in events.txt: {} {}", event.0, event.1));
            }
            Some((event, _)) => {
                if gaps.insert(event, number).is_some() {
                    findings.push(format!("{gap_list}:{number}: listed twice: {} {}", event.0, event.1));
                }
            }
            None => findings
                .push(format!("{gap_list}:{number}: not `in NAME REASON` or `out NAME REASON`: {line}")),
        }
    }
    let mut shown = 0;
    for event in &events {
        let (way, name) = event;
        match (transcript_with(tree, folder, *event), gaps.get(event)) {
            (Some(_), None) => shown += 1,
            (Some(path), Some(number)) => {
                shown += 1;
                findings.push(format!("{gap_list}:{number}: no gap any more, {path} shows it: {way} {name}"));
            }
            (None, None) => findings.push(format!("{list}: in no transcript and no known gap: {way} {name}")),
            (None, Some(_)) => {}
        }
    }
    (shown, events.len())
}

/// Rewrites every `known-gaps.txt` without the gaps that a transcript covers.
fn prune(root: &Path) -> Result<(), String> {
    let tree = Tree::read(root)?;
    for dialect in DIALECTS {
        let path = format!("conformance/{}/known-gaps.txt", dialect.folder);
        let Some(file) = tree.get(&path) else { continue };
        let open = |line: &&str| {
            columns(line).is_none_or(|(event, _)| transcript_with(&tree, dialect.folder, event).is_none())
        };
        let kept: String = file.text.lines().filter(open).map(|line| format!("{line}\n")).collect();
        if kept != file.text {
            fs::write(root.join(&path), kept).map_err(|error| format!("{path}: {error}"))?;
        }
    }
    Ok(())
}

/// The first transcript of the dialect in which the event goes its way.
fn transcript_with<'a>(tree: &'a Tree, folder: &str, (way, name): Event<'_>) -> Option<&'a str> {
    let (folder, quoted) = (format!("conformance/{folder}/"), format!("\"{name}\""));
    let arrow = if way == "in" { '>' } else { '<' };
    tree.files().filter(|(path, _)| is_transcript(path, &folder)).find_map(|(path, file)| {
        file.text.lines().any(|line| goes(line, arrow) && has_value(line, &quoted)).then_some(path)
    })
}

fn is_transcript(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|name| name.ends_with(".txt") && name != "events.txt" && name != "known-gaps.txt")
}

/// Whether a transcript's line is `NAME > …` (or `NAME < …`, as asked).
fn goes(line: &str, arrow: char) -> bool {
    line.split_whitespace().nth(1).is_some_and(|word| word.starts_with(arrow))
}

/// Whether the quoted name stands there as a value: `"type":"status"` is one of `"status"`, `"status":1` is none.
fn has_value(line: &str, quoted: &str) -> bool {
    line.match_indices(quoted).any(|(at, _)| {
        let after = line.get(at + quoted.len()..).unwrap_or("");
        !after.trim_start().starts_with(':')
    })
}

/// `in NAME REASON` into ((way, name), reason); the reason may be empty.
fn columns(line: &str) -> Option<(Event<'_>, &str)> {
    let (way, rest) = line.trim().split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (name, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let known = (way == "in" || way == "out") && !name.is_empty();
    known.then_some(((way, name), reason.trim()))
}

/// The lines of a list that say something, with their numbers from 1; none if there is no such file.
fn lines<'a>(tree: &'a Tree, path: &str) -> impl Iterator<Item = (usize, &'a str)> {
    let text = tree.get(path).map_or("", |file| file.text.as_str());
    let said = |(_, line): &(usize, &str)| !line.trim().is_empty() && !line.starts_with('#');
    (1..).zip(text.lines()).filter(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: (&str, &str) = ("conformance/mxf/events.txt", "# from the document\nin  ask\nout told\n");
    const TRANSCRIPT: (&str, &str) =
        ("conformance/mxf/ask.txt", "alice > 42[\"ask\",{}]\nbob < 42[\"told\",{}]\n");

    fn found(samples: &[(&str, &str)]) -> (Vec<String>, usize) {
        let mut findings = Vec::new();
        let (shown, _) = coverage(&Tree::of(samples), "mxf", &mut findings);
        (findings, shown)
    }

    #[test]
    fn shown_events_are_covered() {
        assert_eq!(found(&[EVENTS, TRANSCRIPT]), (vec![], 2));
    }

    #[test]
    fn an_event_in_no_transcript_is_found() {
        let (findings, shown) = found(&[EVENTS, ("conformance/mxf/ask.txt", "alice > 42[\"ask\",{}]\n")]);
        assert_eq!(findings, ["conformance/mxf/events.txt: in no transcript and no known gap: out told"]);
        assert_eq!(shown, 1);
    }

    #[test]
    fn the_way_counts() {
        let (findings, _) = found(&[EVENTS, ("conformance/mxf/ask.txt", "a > \"ask\"\na > \"told\"\n")]);
        assert_eq!(findings, ["conformance/mxf/events.txt: in no transcript and no known gap: out told"]);
    }

    #[test]
    fn a_key_is_no_event() {
        let key = ("conformance/mxf/ask.txt", "a > {\"ask\":1}\nb < {\"type\":\"told\"}\n");
        let (findings, _) = found(&[EVENTS, key]);
        assert_eq!(findings, ["conformance/mxf/events.txt: in no transcript and no known gap: in ask"]);
    }

    #[test]
    fn other_dialects_transcripts_do_not_count() {
        let (findings, _) = found(&[EVENTS, ("conformance/aiwm/ask.txt", TRANSCRIPT.1)]);
        assert_eq!(findings.len(), 2, "{findings:?}");
    }

    #[test]
    fn a_gap_with_a_reason_excuses() {
        let gaps = ("conformance/mxf/known-gaps.txt", "in ask    not there yet\nout told  not there yet\n");
        assert_eq!(found(&[EVENTS, gaps]), (vec![], 0));
    }

    #[test]
    fn false_excuses_are_found() {
        let gaps = (
            "conformance/mxf/known-gaps.txt",
            "in ask not there yet\nout told\nin other why\nsideways x y\n",
        );
        let (findings, _) = found(&[EVENTS, TRANSCRIPT, gaps]);
        let expected = [
            "a gap needs a reason",
            "not in events.txt: in other",
            "not `in NAME REASON`",
            "no gap any more",
        ];
        for part in expected {
            assert!(findings.iter().any(|finding| finding.contains(part)), "{part}: {findings:?}");
        }
    }

    #[test]
    fn a_missing_or_malformed_list_is_found() {
        assert_eq!(found(&[]).0, ["conformance/mxf/events.txt: lists no event"]);
        let doubled = ("conformance/mxf/events.txt", "in ask\nin ask\nask\n");
        let (findings, _) = found(&[doubled, TRANSCRIPT]);
        assert!(findings.iter().any(|finding| finding.contains("listed twice")), "{findings:?}");
        assert!(
            findings.iter().any(|finding| finding.contains("events.txt:3: not `in NAME`")),
            "{findings:?}"
        );
    }
}
