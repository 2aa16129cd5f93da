//! Taking secrets out of text: values of telling names, bearer headers, tokens and keys by their look.

use std::borrow::Cow;

/// What stands where a secret was.
const HIDDEN: &str = "[hidden]";

/// Names whose values are secrets, in small letters. A name that ends with one of them counts too.
const NAMES: [&str; 11] = [
    "token",
    "api_key",
    "apikey",
    "api-key",
    "secret",
    "secretkey",
    "secret-key",
    "password",
    "domainkey",
    "domain_key",
    "authorization",
];

/// The text without values of `token`, `api_key`, `Authorization` and the like, without bearer values, JWTs and keys.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let lower = text.to_ascii_lowercase();
    let suspicious = NAMES.iter().any(|name| lower.contains(name))
        || ["bearer ", "basic ", "eyj", "key_", "%"].iter().any(|sign| lower.contains(sign));
    if !suspicious {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut before = Before::Nothing;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_delimiter).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if !word.is_empty() {
            before = take_word(&mut out, word, before);
        }
        let mut tail = after.chars();
        if let Some(delimiter) = tail.next() {
            out.push(delimiter);
            before = before.passing(delimiter);
        }
        rest = tail.as_str();
    }
    Cow::Owned(out)
}

/// What the word before says about the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Nothing,
    /// A telling name; an equals sign or colon may follow.
    Name,
    /// A telling name and its sign: a value follows.
    Sign,
    /// `Bearer` or `Basic`: a value follows.
    Scheme,
}

impl Before {
    const fn passing(self, delimiter: char) -> Self {
        match (self, delimiter) {
            (Self::Name | Self::Sign, '=' | ':') => Self::Sign,
            // Quotes and blanks may stand around the sign; other delimiters end what was said.
            (Self::Name, '"' | '\\' | '\'') => Self::Name,
            (Self::Sign, '"' | '\\' | '\'' | ' ' | '(') => Self::Sign,
            (Self::Scheme, ' ') => Self::Scheme,
            _ => Self::Nothing,
        }
    }
}

const fn is_delimiter(c: char) -> bool {
    matches!(
        c,
        '?' | '&' | ';' | ',' | '=' | ':' | '"' | '\'' | '\\' | '(' | ')' | '{' | '}' | '[' | ']' | '<' | '>'
    ) || c.is_ascii_whitespace()
}

fn take_word(out: &mut String, word: &str, before: Before) -> Before {
    let scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
    match before {
        Before::Sign | Before::Scheme if !scheme => {
            out.push_str(HIDDEN);
            // What follows a colon within the value belongs to it: `key_id:secret`.
            return Before::Name;
        }
        _ => {}
    }
    if scheme {
        out.push_str(word);
        return Before::Scheme;
    }
    if word.starts_with("eyJ") && word.matches('.').count() == 2 {
        out.push_str(HIDDEN);
        return Before::Nothing;
    }
    out.push_str(word);
    if is_key_id(word) || is_telling(word) { Before::Name } else { Before::Nothing }
}

/// `key_` and 24 hex digits; the secret half follows after a colon.
fn is_key_id(word: &str) -> bool {
    word.strip_prefix("key_").is_some_and(|hex| hex.len() == 24 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Names in URLs may be percent-encoded.
fn is_telling(word: &str) -> bool {
    let plain = if word.contains('%') { decoded(word) } else { word.to_ascii_lowercase() };
    let name = plain.rsplit(['/', '.']).next().unwrap_or(&plain);
    NAMES.iter().any(|telling| name.ends_with(telling))
}

fn decoded(word: &str) -> String {
    let mut bytes = word.bytes();
    let mut out = Vec::with_capacity(word.len());
    while let Some(byte) = bytes.next() {
        let digit =
            |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let ahead = (digit(bytes.clone().next()), digit(bytes.clone().nth(1)));
        match (byte, ahead) {
            (b'%', (Some(high), Some(low))) => {
                out.push((high << 4) | low);
                bytes = {
                    let mut rest = bytes.clone();
                    rest.nth(1);
                    rest
                };
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        for (text, expected) in [
            ("GET /ws?token=abc.def&platform=web", "GET /ws?token=[hidden]&platform=web"),
            ("/ws?platform=web&api_key=key_1:s+x/y==", "/ws?platform=web&api_key=[hidden]:[hidden]=="),
            ("/ws?TOKEN=abc", "/ws?TOKEN=[hidden]"),
            ("/ws?%74oken=abc&x=1", "/ws?%74oken=[hidden]&x=1"),
            ("/ws?access_token=abc", "/ws?access_token=[hidden]"),
            ("Authorization: Bearer abc", "Authorization: Bearer [hidden]"),
            ("authorization=\"Bearer abc\" x", "authorization=\"Bearer [hidden]\" x"),
            ("Authorization: abc", "Authorization: [hidden]"),
            ("proxy said Basic dXNlcjpw today", "proxy said Basic [hidden] today"),
            ("{\"token\":\"abc\",\"n\":1}", "{\"token\":\"[hidden]\",\"n\":1}"),
            ("{\\\"secretKey\\\": \\\"abc\\\"}", "{\\\"secretKey\\\": \\\"[hidden]\\\"}"),
            ("x-api-key: abc", "x-api-key: [hidden]"),
            ("password=hunter2, user=ann", "password=[hidden], user=ann"),
            ("bad eyJhbGciOiJIUzI1NiJ9.e30.c2ln here", "bad [hidden] here"),
            ("key_0123456789abcdef01234567:c2VjcmV0 used", "key_0123456789abcdef01234567:[hidden] used"),
            ("the token is not valid", "the token is not valid"),
            ("100% of 3 tokens", "100% of 3 tokens"),
            ("nothing to see", "nothing to see"),
            ("", ""),
        ] {
            assert_eq!(redacted(text), expected, "{text}");
        }
    }

    #[test]
    fn any_text_passes_without_panic_and_without_growing_wild() {
        for text in [
            "?token=",
            "token=\"",
            "Bearer ",
            "ä?token=ä%zz%",
            "token=token=token=x",
            "=:=:\"",
            "%",
            "%4",
            "%74",
        ] {
            let out = redacted(text);
            assert!(out.len() <= text.len() + 5 * super::HIDDEN.len(), "{text} gave {out}");
        }
        assert_eq!(redacted("?token=secret").matches("secret").count(), 0);
    }
}
