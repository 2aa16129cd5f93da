//! The rules, one by one and under any traffic.

use proptest::prelude::*;

use super::{Act, AlertId, Attack, Detectors, Found, MOST_TRACKS, Rule, Step, Time};

const LOGINS: Rule = Rule { most: Some(5), suspicious: Some(3), window_ms: 300_000, block_ms: Some(300_000) };

fn act<'a>(attack: Attack, source: &'a str, place: &'a str) -> Act<'a> {
    Act { attack, source, place, about: 0 }
}

fn logins() -> Detectors {
    Detectors::new([(Attack::BruteForce, LOGINS)])
}

fn fail(detectors: &mut Detectors, source: &str, place: &str, at: i64) -> Option<Found> {
    detectors.note(act(Attack::BruteForce, source, place), Time(at), 7)
}

#[test]
fn the_third_failure_is_suspicious_and_the_sixth_is_answered_with_a_block() {
    let mut detectors = logins();
    let found: Vec<_> = (0..6).map(|n| fail(&mut detectors, "a", "l", n * 1_000)).collect();
    let steps: Vec<_> = found.iter().map(|found| found.as_ref().map(|found| found.step)).collect();
    let block = Step::Intrusion(Some(Time(305_000)));
    assert_eq!(steps, [None, None, Some(Step::Suspicious), None, None, Some(block)]);
    let [suspected, caught] = [2, 5].map(|n: usize| found[n].clone().unwrap());
    assert_eq!(suspected.alert, caught.alert, "the steps of one attack share an id");
    assert_eq!((suspected.count, caught.count, caught.threshold, caught.window_s), (3, 6, 5, 300));
    assert_eq!(caught.first, Time(0));
    assert!(caught.confidence > 0.99 && caught.confidence < 1.0, "six within five of 300 s");
}

#[test]
fn refused_tries_do_not_prolong_a_block_and_a_new_attack_begins_after_it() {
    let mut detectors = logins();
    let first = (0..6).filter_map(|n| fail(&mut detectors, "a", "l", n)).last().unwrap();
    assert!((6..300_005).step_by(997).all(|at| fail(&mut detectors, "a", "l", at).is_none()));
    let again: Vec<_> = (0..6).filter_map(|n| fail(&mut detectors, "a", "l", 300_005 + n)).collect();
    assert_eq!(again.iter().map(|f| f.count).collect::<Vec<_>>(), [3, 6]);
    assert_ne!(first.alert, AlertId::fresh(Time(0), 8));
    assert_eq!(again[1].step, Step::Intrusion(Some(Time(600_010))));
}

#[test]
fn failures_that_are_spread_out_are_nothing() {
    let mut detectors = logins();
    assert!((0..100).all(|n| fail(&mut detectors, "a", "l", n * 150_001).is_none()));
}

#[test]
fn a_block_holds_at_one_listener_and_the_next_failure_elsewhere_blocks_there_too() {
    let mut detectors = logins();
    (0..6).for_each(|n| drop(fail(&mut detectors, "a", "l", n)));
    let elsewhere = fail(&mut detectors, "a", "m", 10).unwrap();
    assert_eq!((elsewhere.place.as_str(), elsewhere.step), ("m", Step::Intrusion(Some(Time(300_010)))));
    assert!(fail(&mut detectors, "a", "m", 11).is_none());
    assert!(fail(&mut detectors, "b", "m", 11).is_none(), "others are not concerned");
}

#[test]
fn what_is_not_blocked_is_told_once_as_long_as_it_lasts() {
    let rule = Rule { most: Some(2), window_ms: 1_000, ..Rule::default() };
    let mut detectors = Detectors::new([(Attack::Flooding, rule)]);
    let mut flood = |at| detectors.note(act(Attack::Flooding, "a", "l"), Time(at), 1).is_some();
    let told: Vec<i64> = (0..100).map(|n| n * 100).filter(|at| flood(*at)).collect();
    assert_eq!(told, [200], "it never stopped");
    assert_eq!((0..3).map(|n| flood(20_000 + n)).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn one_is_enough_where_nothing_is_usual_and_off_is_off() {
    let rule = Rule { most: Some(0), window_ms: 1_000, ..Rule::default() };
    let mut detectors = Detectors::new([(Attack::Spoofing, rule)]);
    assert!(detectors.note(act(Attack::Spoofing, "a", "l"), Time(0), 1).is_some());
    assert!(detectors.note(act(Attack::Spoofing, "a", "l"), Time(1), 1).is_none());
    assert!(detectors.note(act(Attack::Ddos, "a", "l"), Time(1), 1).is_none());
}

#[test]
fn repetitions_are_of_one_message() {
    let rule = Rule { most: Some(2), window_ms: 300_000, ..Rule::default() };
    let mut detectors = Detectors::new([(Attack::Replay, rule)]);
    let mut show = |about| detectors.note(Act { about, ..act(Attack::Replay, "a", "l") }, Time(0), 1);
    assert!((0..50).all(|about| show(about).is_none()));
    assert!(show(7).is_none());
    assert_eq!(show(7).unwrap().count, 3);
}

#[test]
fn whom_the_operator_forgives_begins_anew() {
    let mut detectors = logins();
    (0..6).for_each(|n| drop(fail(&mut detectors, "a", "l", n)));
    detectors.forgive("a");
    let steps: Vec<_> = (10..16).filter_map(|at| fail(&mut detectors, "a", "l", at)).collect();
    assert_eq!(steps.len(), 2);
}

#[test]
fn what_is_taken_back_does_not_count() {
    let mut detectors = logins();
    for n in 0..50 {
        assert!(fail(&mut detectors, "a", "l", n).is_none());
        detectors.take_back(Attack::BruteForce, "a");
    }
    detectors.take_back(Attack::BruteForce, "b");
}

#[test]
fn more_attackers_than_fit_do_not_grow_it() {
    let mut detectors = logins();
    for n in 0..=MOST_TRACKS {
        fail(&mut detectors, &n.to_string(), "l", 0);
    }
    assert_eq!((detectors.tracks.len(), detectors.by_age.len()), (MOST_TRACKS, MOST_TRACKS));
}

proptest! {
    /// Against a list of all acts: a source is caught exactly when more than the threshold lie in the window.
    #[test]
    fn windows_slide(acts in prop::collection::vec((0_u8..3, 1_i64..400), 0..200)) {
        let rule = Rule { most: Some(4), window_ms: 1_000, ..Rule::default() };
        let mut detectors = Detectors::new([(Attack::Malformed, rule)]);
        let (mut now, mut all, mut told) = (0, Vec::<(u8, i64)>::new(), [false; 3]);
        for (who, after) in acts {
            now += after;
            let found = detectors.note(act(Attack::Malformed, &who.to_string(), "l"), Time(now), 1);
            let within = |all: &[(u8, i64)]| all.iter().filter(|(w, at)| *w == who && now - at < 1_000).count();
            let told = &mut told[usize::from(who)];
            *told &= within(&all) > 0;
            all.push((who, now));
            let caught = within(&all) > 4 && !std::mem::replace(told, *told || within(&all) > 4);
            prop_assert_eq!(found.is_some(), caught);
        }
        let longest = detectors.tracks.values().map(|track| track.times.len()).max().unwrap_or(0);
        prop_assert!(longest <= 5, "no track is longer than its threshold needs");
    }
}
