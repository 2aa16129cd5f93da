//! Who should have seen what, and what is wrong with what was seen.

use super::{LINES, Said, Seen};

/// The clients that talk, with the event by which each hears the others.
const TALKERS: [(&str, &str); 3] = [("ada", "chat_receive"), ("scout", "message"), ("scribe", "message:new")];
/// What the others are told: who, by which event, about whom.
const NEWS: [(&str, &str, &str); 5] = [
    ("dashboard", "agent_created", "scout"),
    ("dashboard", "agent_created", "scribe"),
    ("dashboard", "agent_status_changed", "scout"),
    ("dashboard", "agent_status_changed", "scribe"),
    ("watcher", "node_joined", "beacon"),
];

/// Everything that is missing, changed, seen twice or in another order; nothing if all is well.
pub fn problems(seen: &[Seen]) -> Vec<String> {
    let mut found = Vec::new();
    for (who, event) in TALKERS {
        for said in LINES {
            let heard: Vec<&Seen> = seen.iter().filter(|s| s.who == who && s.from == said.who).collect();
            found.extend(match heard.as_slice() {
                [] if is_for(who, &said) => Some(format!("{who} missed what {} said", said.who)),
                [] => None,
                [s] if is_for(who, &said) => changed(s, event, &said),
                _ => Some(format!("{who} saw too often what {} said", said.who)),
            });
        }
    }
    for (who, event, about) in NEWS {
        if !seen.iter().any(|s| s.who == who && s.event == event && s.from == about) {
            found.push(format!("{who} missed {event} of {about}"));
        }
    }
    let [(first, _), others @ ..] = TALKERS;
    found.extend(others.iter().filter_map(|(other, _)| different_order(seen, first, other)));
    found.extend(different_order(seen, "scout", "scribe"));
    found
}

/// A MegaBot connection gets no copy of what it said itself; the others do.
fn is_for(who: &str, said: &Said) -> bool {
    who != "ada" || said.who != "ada"
}

fn changed(seen: &Seen, event: &str, said: &Said) -> Option<String> {
    // MegaBot knows people and assistants, and no other agents.
    let role = if seen.who == "ada" { "assistant" } else { said.role };
    let same = seen.event == event && seen.role == role && seen.text == said.text;
    (!same).then(|| {
        format!("{} saw what {} said as {} {} {:?}", seen.who, said.who, seen.event, seen.role, seen.text)
    })
}

fn different_order(seen: &[Seen], one: &str, other: &str) -> Option<String> {
    let heard = |who: &str| seen.iter().filter(|s| s.who == who).map(|s| &s.text).collect::<Vec<_>>();
    let (of_one, of_other) = (heard(one), heard(other));
    let common = |list: &[&String], other: &[&String]| -> Vec<String> {
        list.iter().filter(|text| other.contains(text)).map(ToString::to_string).collect()
    };
    let same = common(&of_one, &of_other) == common(&of_other, &of_one);
    (!same).then(|| format!("{one} and {other} saw different orders"))
}

#[cfg(test)]
mod tests {
    use super::{LINES, NEWS, Seen, TALKERS, is_for, problems};

    fn all() -> Vec<Seen> {
        let mut seen = Vec::new();
        for (who, event) in TALKERS {
            for said in LINES.iter().filter(|said| is_for(who, said)) {
                let role = if who == "ada" { "assistant" } else { said.role };
                let (event, role, text) = (event.into(), role.into(), said.text.into());
                seen.push(Seen { who, dialect: "", event, from: said.who.into(), role, text });
            }
        }
        let news = |(who, event, about): (&'static str, &str, &str)| {
            let (event, from) = (event.into(), about.into());
            Seen { who, dialect: "", event, from, role: String::new(), text: String::new() }
        };
        seen.extend(NEWS.map(news));
        seen
    }

    #[test]
    fn everybody_saw_everything() {
        assert_eq!(all().len(), 8 + 5);
        assert_eq!(problems(&all()), [""; 0]);
    }

    #[test]
    fn every_single_sight_is_needed_once() {
        for n in 0..all().len() {
            let mut seen = all();
            let lost = seen.remove(n);
            let found = problems(&seen);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{} missed", lost.who)) && found[0].contains(&lost.from));
            if n < 8 {
                seen.insert(n, lost.clone());
                seen.insert(n, lost);
                assert!(problems(&seen)[0].contains("too often"));
            }
        }
    }

    #[test]
    fn a_changed_text_role_or_order_is_found() {
        let with = |change: &dyn Fn(&mut Vec<Seen>)| {
            let mut seen = all();
            change(&mut seen);
            problems(&seen).join("; ")
        };
        assert!(with(&|seen| seen[0].text.push('!')).contains("ada saw what scout said as"));
        assert!(with(&|seen| seen[2].role = "tool".into()).contains("scout saw what ada said as"));
        assert_eq!(with(&|seen| seen.swap(0, 1)).matches("different orders").count(), 2);
        assert_eq!(with(&|seen| seen.swap(6, 7)).matches("different orders").count(), 2);
    }
}
