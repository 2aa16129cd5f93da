//! What many messages have in common, without a model: counted words, and the sentences that hold most of them.

use std::collections::{BTreeMap, BTreeSet};

/// Most topics.
const TOPICS: usize = 20;
/// Most sentences of a summary.
const SENTENCES: usize = 5;
/// Shorter words say little.
const SHORTEST: usize = 4;
/// Longer ones are no words.
const LONGEST: usize = 40;
/// Words that say nothing about a subject.
const EMPTY: [&str; 40] = [
    "about", "after", "again", "also", "because", "been", "before", "being", "could", "does", "doing",
    "from", "have", "here", "into", "just", "like", "more", "most", "only", "other", "over", "shall",
    "should", "some", "such", "than", "that", "their", "them", "then", "there", "these", "they", "this",
    "what", "when", "will", "with", "would",
];

/// A word that several messages share.
#[derive(Clone, PartialEq, Debug)]
pub struct Topic {
    /// The word, in lower case.
    pub word: String,
    /// Which part of the messages hold it, 0–1.
    pub relevance: f64,
    /// How many do.
    pub mentions: usize,
}

/// The words of a text that may be a subject, each once, in lower case.
fn words(text: &str) -> BTreeSet<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    let long = |part: &&str| (SHORTEST..=LONGEST).contains(&part.chars().count());
    let lower = parts.filter(long).map(str::to_lowercase);
    lower.filter(|word| !EMPTY.contains(&word.as_str())).collect()
}

fn mentions(texts: &[&str]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for word in texts.iter().flat_map(|text| words(text)) {
        *counted.entry(word).or_insert(0) += 1;
    }
    counted
}

/// The words that most messages share, the most shared first; a word of one message alone is no topic.
pub fn topics(texts: &[&str]) -> Vec<Topic> {
    let topic = |(word, mentions): (String, usize)| {
        let relevance = mentions as f64 / texts.len() as f64;
        Topic { word, relevance, mentions }
    };
    let mut topics: Vec<Topic> = mentions(texts).into_iter().filter(|(_, n)| *n > 1).map(topic).collect();
    // By name where they are equal: the order of the map, which a stable sort keeps.
    topics.sort_by_key(|topic| std::cmp::Reverse(topic.mentions));
    topics.truncate(TOPICS);
    topics
}

/// The sentences whose words are shared most, in the order in which they were said.
pub fn sentences(texts: &[&str]) -> Vec<String> {
    let counted = mentions(texts);
    let all = texts.iter().flat_map(|text| text.split_inclusive(['.', '!', '?', '\n'])).map(str::trim);
    let mut seen = BTreeSet::new();
    let all: Vec<&str> = all.filter(|sentence| !sentence.is_empty() && seen.insert(*sentence)).collect();
    let weight = |sentence: &str| {
        let words = words(sentence);
        let shared: usize = words.iter().filter_map(|word| counted.get(word)).sum();
        shared as f64 / (words.len().max(1) as f64).sqrt()
    };
    let mut weighed: Vec<(usize, f64)> = all.iter().map(|sentence| weight(sentence)).enumerate().collect();
    weighed.sort_by(|a, b| b.1.total_cmp(&a.1));
    let chosen: BTreeSet<usize> = weighed.into_iter().take(SENTENCES).map(|(place, _)| place).collect();
    chosen.into_iter().filter_map(|place| all.get(place)).map(|sentence| (*sentence).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{sentences, topics};

    #[test]
    fn what_is_shared_comes_first_and_what_stands_alone_is_no_topic() {
        let texts =
            ["The engine leaks oil.", "Oil again: the engine, the ENGINE!", "A new engine would help."];
        let found: Vec<(String, usize)> = topics(&texts).into_iter().map(|t| (t.word, t.mentions)).collect();
        assert_eq!(found, [("engine".to_owned(), 3)]);
        assert_eq!(topics(&texts)[0].relevance, 1.0);
        assert!(topics(&[]).is_empty());
    }

    #[test]
    fn a_summary_keeps_the_words_and_their_order() {
        let mut texts: Vec<String> = (0..9).map(|n| format!("Greeting{n} folks{n}.")).collect();
        texts.push("The engine leaks. Nobody cares.".into());
        texts.push("The engine leaks more, says everybody who drove this engine.".into());
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = sentences(&texts);
        assert_eq!(found.len(), 5);
        assert!(found.contains(&"The engine leaks.".to_owned()), "{found:?}");
        let places: Vec<usize> = found.iter().map(|s| texts.join(" ").find(s.as_str()).unwrap()).collect();
        assert!(places.is_sorted());
        assert!(sentences(&[]).is_empty());
        assert_eq!(sentences(&["Once.", "Once."]), ["Once."]);
    }
}
