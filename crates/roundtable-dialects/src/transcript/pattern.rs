//! Names in frames: `$id1` takes what stands there first and must be the same ever after; `$t1` is a moment, in any form.
//! `${id1}` is the same where a letter, a digit or `_` follows.

use std::collections::BTreeMap;

use roundtable_core::time::Time;

use crate::iso::iso;

/// What the names of a transcript stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    texts: BTreeMap<String, String>,
    moments: BTreeMap<String, Moment>,
}

/// A moment as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// To the millisecond.
    Exact(Time),
    /// To the second, since 1970.
    Second(i64),
}

impl Moment {
    /// What is known of a moment that was written in two ways; `None` if it cannot be one.
    fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Exact(a), Self::Second(b)) | (Self::Second(b), Self::Exact(a)) => {
                (a.as_seconds() == b).then_some(Self::Exact(a))
            }
            (a, b) => (a == b).then_some(a),
        }
    }

    /// As it is written in quotes, or without.
    fn written(self, quoted: bool) -> String {
        match self {
            Self::Exact(at) if quoted => iso(at),
            Self::Exact(at) => at.0.to_string(),
            Self::Second(second) => second.to_string(),
        }
    }
}

/// A piece of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// `t` and a digit: a moment.
fn is_moment(name: &str) -> bool {
    name.strip_prefix('t').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// A name at the beginning of a text, and how long it is written.
fn name_at(text: &str) -> Option<(&str, usize)> {
    let (name, long) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}').map(|(name, _)| (name, name.len() + 2))?,
        None => {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
            (text.get(..end)?, end)
        }
    };
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    good.then_some((name, long))
}

/// Cuts a text at its names. A `$` that no name follows is a `$`.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut rest, mut from) = (text, 0);
    while let Some(at) = rest.get(from..).and_then(|tail| tail.find('$')).map(|at| at + from) {
        let after = rest.get(at + 1..).unwrap_or("");
        let Some((name, long)) = name_at(after) else {
            from = at + 1;
            continue;
        };
        pieces.push(Piece::Text(rest.get(..at).unwrap_or("")));
        pieces.push(Piece::Name(name));
        (rest, from) = (after.get(long..).unwrap_or(""), 0);
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// How far a value can reach: up to what ends a JSON string or scalar.
fn reach(text: &str, quoted: bool) -> usize {
    let ends = |c: char| if quoted { c == '"' || c == '\\' } else { ",]}\"\\ ".contains(c) };
    text.find(ends).unwrap_or(text.len())
}

impl Names {
    /// Gives a name its meaning.
    pub fn set(&mut self, name: &str, text: impl Into<String>) {
        self.texts.insert(name.to_owned(), text.into());
    }

    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// The name of a text or an exact moment that has one already.
    pub fn name_of(&self, text: &str) -> Option<&str> {
        let by_text = self.texts.iter().find(|(_, known)| *known == text).map(|(name, _)| name);
        let exact = |moment: &Moment| matches!(moment, Moment::Exact(_));
        let moment = moment(text, true).or_else(|| moment(text, false)).filter(exact);
        let by_moment =
            || self.moments.iter().find(|(_, known)| Some(**known) == moment).map(|(name, _)| name);
        by_text.or_else(by_moment).map(String::as_str)
    }

    /// Every name that has a meaning.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().chain(self.moments.keys()).map(String::as_str)
    }

    /// A text with every name replaced. In quotes a moment is written as ISO text, else as milliseconds.
    pub fn filled(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Name(name) => match (self.texts.get(name), self.moments.get(name)) {
                    (Some(text), _) => filled.push_str(text),
                    (None, Some(at)) => filled.push_str(&at.written(filled.ends_with('"'))),
                    (None, None) => return Err(format!("${name} stands for nothing yet")),
                },
            }
        }
        Ok(filled)
    }

    /// Compares a text with a pattern, byte for byte but for its names. New names keep what they found, if all of it fits.
    pub fn matches(&mut self, pattern: &str, text: &str) -> Result<(), String> {
        let mut found = self.clone();
        let pieces = pieces(pattern);
        let (mut rest, mut quoted) = (text, false);
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Text(expected) => {
                    rest = rest.strip_prefix(expected).ok_or_else(|| differs(expected, rest))?;
                    quoted ^= expected.matches('"').count() % 2 == 1;
                }
                Piece::Name(name) => {
                    let reach = reach(rest, quoted);
                    let follows = match pieces.get(at + 1) {
                        Some(Piece::Text(next)) if !next.is_empty() => *next,
                        _ => "",
                    };
                    let run = rest.get(..reach).unwrap_or("");
                    let inside = follows.split(['"', '\\', ',', ']', '}', ' ']).next().unwrap_or("");
                    let long = if inside.is_empty() { reach } else { run.find(inside).unwrap_or(reach) };
                    let value = rest.get(..long).unwrap_or("");
                    found.take(name, value, quoted)?;
                    rest = rest.get(long..).unwrap_or("");
                }
            }
        }
        if !rest.is_empty() {
            return Err(differs("", rest));
        }
        *self = found;
        Ok(())
    }

    fn take(&mut self, name: &str, value: &str, quoted: bool) -> Result<(), String> {
        if value.is_empty() {
            return Err(format!("${name} finds nothing"));
        }
        if name == "_" {
            return Ok(());
        }
        if is_moment(name) {
            let found = moment(value, quoted).ok_or_else(|| format!("${name}: `{value}` is no moment"))?;
            let whole = match self.moments.get(name) {
                Some(known) => known
                    .and(found)
                    .ok_or_else(|| format!("${name} is {}, not {value}", known.written(true)))?,
                None => found,
            };
            self.moments.insert(name.to_owned(), whole);
            return Ok(());
        }
        match self.texts.insert(name.to_owned(), value.to_owned()) {
            Some(known) if known != value => Err(format!("${name} is {known}, not {value}")),
            _ => Ok(()),
        }
    }
}

/// `2026-01-01T00:00:00.000Z` in quotes; milliseconds or whole seconds since 1970 without. Nothing else is a moment.
fn moment(text: &str, quoted: bool) -> Option<Moment> {
    if quoted {
        let at = Time(text.parse::<jiff::Timestamp>().ok()?.as_millisecond());
        return (iso(at) == text).then_some(Moment::Exact(at));
    }
    let number = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))?;
    match text.len() {
        13 => Some(Moment::Exact(Time(number))),
        10 => Some(Moment::Second(number)),
        _ => None,
    }
}

fn differs(expected: &str, found: &str) -> String {
    let same = expected.bytes().zip(found.bytes()).take_while(|(a, b)| a == b).count();
    let rest = |text: &str| {
        let from = (0..=same.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let cut: String = text.get(from..).unwrap_or("").chars().take(60).collect();
        if cut.is_empty() { "the end".into() } else { format!("`{cut}`") }
    };
    format!("expected {}, found {}", rest(expected), rest(found))
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn a_name_takes_what_it_finds_and_holds_on_to_it() {
        let mut names = Names::default();
        names.matches(r#"< {"id":"$m","n":$n}"#, r#"< {"id":"abc","n":7}"#).unwrap();
        assert_eq!((names.get("m"), names.get("n")), (Some("abc"), Some("7")));
        assert!(names.matches(r#"["$m"]"#, r#"["abc"]"#).is_ok());
        assert!(names.matches(r#"["$m"]"#, r#"["abd"]"#).unwrap_err().contains("$m is abc"));
        assert!(names.matches(r#"["$m"]"#, r#"[""]"#).is_err());
        assert_eq!(names.filled("a $m, $5 and $").unwrap(), "a abc, $5 and $");
        assert!(names.filled("$other").is_err());
    }

    #[test]
    fn everything_else_is_byte_for_byte() {
        let mut names = Names::default();
        let cases = [
            (r#"{"a":1,"b":"$x"}"#, r#"{"b":"x","a":1}"#),
            (r#"{"a":1}"#, r#"{"a":1} "#),
            (r#"{"a":1}"#, r#"{"a": 1}"#),
            (r#"{"a":"$x"}"#, r#"{"a":1}"#),
            (r#"{"a":$x}"#, r#"{"a":"y"}"#),
        ];
        for (pattern, text) in cases {
            assert!(names.matches(pattern, text).is_err(), "{pattern} {text}");
        }
        assert_eq!(names.get("x"), None, "a failed comparison leaves nothing behind");
    }

    #[test]
    fn names_stand_within_texts() {
        let mut names = Names::default();
        names.matches(r#""pre-$a-$b.post""#, r#""pre-1-2.post""#).unwrap();
        assert_eq!((names.get("a"), names.get("b")), (Some("1"), Some("2")));
        names.matches(r#""says $words""#, r#""says so, and more""#).unwrap();
        assert_eq!(names.get("words"), Some("so, and more"));
        names.matches("$_ $_", "1 2").unwrap();
        names.matches("msg_${m}_1", "msg_ab_1").unwrap();
        assert_eq!(names.filled("${m}9 ${").unwrap(), "ab9 ${");
    }

    #[test]
    fn a_moment_is_the_same_in_both_forms_and_has_no_third() {
        let mut names = Names::default();
        names.matches(r#"["$t1"]"#, r#"["2026-01-01T00:00:00.005Z"]"#).unwrap();
        assert!(names.matches("[$t1]", "[1767225600005]").is_ok());
        assert!(names.matches("[$t1]", "[1767225600006]").is_err());
        for third in [r#"["2026-01-01T00:00:00Z"]"#, r#"["1767225600005"]"#, r#"["soon"]"#] {
            assert!(names.matches(r#"["$t2"]"#, third).is_err(), "{third}");
        }
        assert_eq!(names.filled(r#"["$t1",$t1]"#).unwrap(), r#"["2026-01-01T00:00:00.005Z",1767225600005]"#);
        assert!(names.matches("$t1 $t3", "1767225600 1767225600").is_ok());
        assert!(names.matches("$t1", "1767225601").is_err());
        assert!(names.matches("$t3", "1767225600123").is_ok());
        assert!(names.matches("$t3", "1767225600124").is_err(), "known to the millisecond now");
    }
}
