//! The ledger: what was tried, what was acknowledged, who heard what, and whether the log's history agrees.

use std::collections::{HashMap, HashSet};

/// What is written down while the server is attacked. Every message is known by its text, which no other has.
#[derive(Debug, Default)]
pub struct Ledger {
    tried: HashSet<String>,
    taken: HashSet<String>,
    heard: HashMap<String, Hearing>,
}

/// What one reader heard, in order.
#[derive(Debug, Default)]
struct Hearing {
    texts: Vec<String>,
    /// It hears everything but what it said itself; else everything.
    own: Option<String>,
    /// It comes back without saying where it stopped, so a crash may take what was on its way.
    may_miss: bool,
}

impl Ledger {
    /// Somebody sends this, for the first time or again.
    pub fn tried(&mut self, text: &str) {
        self.tried.insert(text.to_owned());
    }

    /// The server acknowledged this.
    pub fn taken(&mut self, text: &str) {
        self.taken.insert(text.to_owned());
    }

    /// How much is acknowledged.
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// A reader is there. `own`: how the texts begin that it says itself and does not hear. `may_miss`: it cannot say where
    /// it stopped.
    pub fn reader(&mut self, who: &str, own: Option<&str>, may_miss: bool) {
        let hearing = Hearing { texts: Vec::new(), own: own.map(str::to_owned), may_miss };
        self.heard.insert(who.to_owned(), hearing);
    }

    /// A reader heard this.
    pub fn heard(&mut self, who: &str, text: &str) {
        if let Some(hearing) = self.heard.get_mut(who) {
            hearing.texts.push(text.to_owned());
        }
    }

    /// How many messages of the history all readers together did not hear; only those who may miss some.
    pub fn missed(&self, history: &[String]) -> usize {
        self.heard
            .values()
            .map(|hearing| hearing.due(history).count().saturating_sub(hearing.texts.len()))
            .sum()
    }

    /// Every promise that the history breaks; nothing if it keeps all. The history is the log's, oldest first.
    pub fn broken(&self, history: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        let mut times: HashMap<&str, usize> = HashMap::new();
        for text in history {
            *times.entry(text).or_default() += 1;
        }
        let mut lost: Vec<&String> =
            self.taken.iter().filter(|text| !times.contains_key(text.as_str())).collect();
        lost.sort();
        found.extend(some("acknowledged and not in the log", &lost));
        let mut repeated: Vec<&str> = times.iter().filter(|(_, n)| **n > 1).map(|(text, _)| *text).collect();
        repeated.sort_unstable();
        found.extend(some("more than once in the log", &repeated));
        let invented: Vec<&String> = history.iter().filter(|text| !self.tried.contains(*text)).collect();
        found.extend(some("in the log though nobody sent it", &invented));
        let mut readers: Vec<_> = self.heard.iter().collect();
        readers.sort_by_key(|(who, _)| *who);
        found.extend(readers.into_iter().filter_map(|(who, hearing)| hearing.differs(who, history)));
        found
    }
}

impl Hearing {
    /// What of the history is for this reader.
    fn due<'a>(&'a self, history: &'a [String]) -> impl Iterator<Item = &'a String> {
        history.iter().filter(|text| self.own.as_ref().is_none_or(|own| !text.starts_with(own)))
    }

    fn differs(&self, who: &str, history: &[String]) -> Option<String> {
        let mut due = self.due(history);
        for (place, heard) in self.texts.iter().enumerate() {
            let next = if self.may_miss { due.find(|text| *text == heard) } else { due.next() };
            match next {
                Some(next) if next == heard => {}
                Some(next) => {
                    return Some(format!(
                        "{who} heard {heard:?} in place {place}, the log has {next:?} there"
                    ));
                }
                None => {
                    return Some(format!("{who} heard {heard:?} in place {place}, again or out of order"));
                }
            }
        }
        let rest = if self.may_miss { None } else { due.next() };
        rest.map(|next| format!("{who} never heard {next:?}"))
    }
}

/// A finding with how many and the first few.
fn some(what: &str, texts: &[impl AsRef<str>]) -> Option<String> {
    let first: Vec<&str> = texts.iter().take(3).map(AsRef::as_ref).collect();
    (!texts.is_empty()).then(|| format!("{} {what}: {}", texts.len(), first.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::Ledger;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    /// Three messages that were all acknowledged and heard by two readers, one of whom said the second.
    fn sound() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.reader("ann", None, false);
        ledger.reader("bob", Some("bob-"), false);
        for text in ["ann-1", "bob-1", "ann-2"] {
            ledger.tried(text);
            ledger.taken(text);
            ledger.heard("ann", text);
        }
        ledger.heard("bob", "ann-1");
        ledger.heard("bob", "ann-2");
        ledger
    }

    #[test]
    fn a_history_that_keeps_all_promises_is_sound() {
        let history = texts(&["ann-1", "bob-1", "ann-2"]);
        assert_eq!(sound().broken(&history), [""; 0]);
        assert_eq!((sound().count(), sound().missed(&history)), (3, 0));
    }

    #[test]
    fn a_lost_acknowledgement_is_found_out() {
        let found = sound().broken(&texts(&["ann-1", "bob-1"]));
        assert!(found[0].contains("1 acknowledged and not in the log: ann-2"), "{found:?}");
        assert!(found[1].contains("ann heard \"ann-2\" in place 2"), "{found:?}");
    }

    #[test]
    fn what_was_tried_and_not_acknowledged_may_be_missing_or_there_once() {
        let mut ledger = sound();
        ledger.tried("ann-3");
        assert_eq!(ledger.broken(&texts(&["ann-1", "bob-1", "ann-2"])), [""; 0]);
        ledger.heard("ann", "ann-3");
        ledger.heard("bob", "ann-3");
        assert_eq!(ledger.broken(&texts(&["ann-1", "bob-1", "ann-2", "ann-3"])), [""; 0]);
        let found = ledger.broken(&texts(&["ann-1", "bob-1", "ann-2", "ann-3", "ann-3"])).join("; ");
        assert!(found.contains("1 more than once in the log: ann-3"), "{found}");
    }

    #[test]
    fn what_nobody_sent_is_found_out() {
        let found = sound().broken(&texts(&["ann-1", "bob-1", "eve-1", "ann-2"])).join("; ");
        assert!(found.contains("in the log though nobody sent it: eve-1"), "{found}");
    }

    #[test]
    fn a_gap_a_repeat_and_another_order_are_found_out() {
        let history = texts(&["ann-1", "bob-1", "ann-2"]);
        let heard = |list: &[&str], may_miss| {
            let mut ledger = sound();
            ledger.reader("cat", None, may_miss);
            list.iter().for_each(|text| ledger.heard("cat", text));
            ledger.broken(&history).join("; ")
        };
        assert!(heard(&["ann-1", "ann-2"], false).contains("the log has \"bob-1\" there"));
        assert!(heard(&["ann-1", "bob-1"], false).contains("never heard \"ann-2\""));
        assert!(heard(&["ann-1", "ann-1", "bob-1", "ann-2"], false).contains("in place 1"));
        assert!(heard(&["bob-1", "ann-1", "ann-2"], false).contains("in place 0"));
        assert_eq!(heard(&["ann-1", "ann-2"], true), "");
        assert!(heard(&["ann-1", "ann-1"], true).contains("again or out of order"));
        assert!(heard(&["ann-2", "bob-1"], true).contains("again or out of order"));
    }
}
