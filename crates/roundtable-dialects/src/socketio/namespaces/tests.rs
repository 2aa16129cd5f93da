//! The rules of Socket.IO namespaces: entering, leaving, events, acknowledgements, attachments, violations.

use proptest::prelude::*;

use super::super::INVALID_NAMESPACE;
use super::*;

const TIGHT: Config = Config { connect_timeout: 1_000, max_before_connect: 100, max_packet: 200 };

fn sid(byte: u8) -> Sid {
    Sid::from_random([byte; 15])
}

fn ask(connection: &mut Namespaces, text: &str) -> Attempt {
    match connection.on_text(text, &TIGHT) {
        Step::Connect { attempt, .. } => attempt,
        other => panic!("{text} gave {other:?}"),
    }
}

fn enter(connection: &mut Namespaces, text: &str) -> Slot {
    let attempt = ask(connection, text);
    assert!(connection.accept(attempt, sid(1)).is_some());
    attempt.slot()
}

/// A connection in the main namespace of somebody who has shown who it is.
fn main() -> Namespaces {
    let mut connection = accepted();
    connection.becomes_known();
    connection
}

/// A stranger's connection in the main namespace.
fn accepted() -> Namespaces {
    let mut connection = Namespaces::new(0, &TIGHT);
    enter(&mut connection, "0");
    connection
}

fn violation(step: Step<'_>) -> Violation {
    match step {
        Step::Close(violation) => violation,
        other => panic!("unexpected {other:?}"),
    }
}

fn event<'a>(step: Step<'a>) -> Event<'a> {
    match step {
        Step::Event(event) => event,
        other => panic!("unexpected {other:?}"),
    }
}

fn bytes(connection: &mut Namespaces, bytes: &[u8]) -> Step<'static> {
    connection.on_binary(Cow::Borrowed(bytes), &TIGHT)
}

#[test]
fn an_idle_connection_in_the_main_namespace_owns_no_heap() {
    let connection = main();
    assert!(!connection.places.spilled() && connection.places[0].name.is_none());
    assert!(size_of::<Namespaces>() <= 96, "{}", size_of::<Namespaces>());
}

#[test]
fn a_client_enters_with_and_without_payload() {
    let mut connection = Namespaces::new(0, &TIGHT);
    let Step::Connect { attempt, namespace, auth } = connection.on_text(r#"0{"token":"123"}"#, &TIGHT) else {
        panic!("no CONNECT");
    };
    assert_eq!((namespace, auth.unwrap().get()), ("/", r#"{"token":"123"}"#));
    assert_eq!(connection.sid(attempt.slot()), None);
    assert_eq!(connection.accept(attempt, sid(0)).unwrap(), r#"40{"sid":"AAAAAAAAAAAAAAAAAAAA"}"#);
    assert_eq!(connection.sid(attempt.slot()), Some(&sid(0)));

    for text in ["0/custom", "0/custom,"] {
        let mut connection = Namespaces::new(0, &TIGHT);
        let Step::Connect { attempt, namespace, auth } = connection.on_text(text, &TIGHT) else {
            panic!("no CONNECT");
        };
        assert_eq!((namespace, auth.is_none()), ("/custom", true));
        assert!(connection.accept(attempt, sid(0)).unwrap().starts_with("40/custom,{"));
        assert_eq!(connection.name(attempt.slot()), Some("/custom"));
    }
}

#[test]
fn payloads_of_connect_are_json() {
    for text in ["0{", "0{}x", "0abc", "012{}", "0[", "0\"a"] {
        let mut namespaces = Namespaces::new(0, &TIGHT);
        assert!(matches!(namespaces.on_text(text, &TIGHT), Step::Close(Violation::Payload)), "{text}");
    }
    for text in ["[]", "\"a\"", "5", "null"] {
        let packet = format!("0/x,{text}");
        let mut namespaces = Namespaces::new(0, &TIGHT);
        let Step::Connect { attempt, auth, .. } = namespaces.on_text(&packet, &TIGHT) else {
            panic!("{text}")
        };
        assert_eq!(auth.unwrap().get(), text);
        assert!(namespaces.refuse(attempt, "no", None).is_some());
    }
}

#[test]
fn a_refused_client_may_ask_again() {
    let mut connection = Namespaces::new(0, &TIGHT);
    let attempt = ask(&mut connection, "0/random");
    let answer = connection.refuse(attempt, INVALID_NAMESPACE, None);
    assert_eq!(answer.unwrap(), r#"44/random,{"message":"Invalid namespace"}"#);
    assert_eq!(connection.refuse(attempt, "twice", None), None);
    assert_eq!(violation(connection.on_text(r#"2/random,["x"]"#, &TIGHT)), Violation::NotConnected);

    let mut connection = Namespaces::new(0, &TIGHT);
    let first = ask(&mut connection, r#"0{"token":"old"}"#);
    let answer = connection.refuse(first, "bad token", Some(r#"{"code":401}"#));
    assert_eq!(answer.unwrap(), r#"44{"message":"bad token","data":{"code":401}}"#);
    let second = ask(&mut connection, r#"0{"token":"new"}"#);
    assert_eq!(second.slot(), first.slot(), "the place is free again");
    assert!(connection.accept(second, sid(1)).is_some());
}

#[test]
fn only_the_newest_of_unanswered_attempts_counts() {
    let mut connection = Namespaces::new(0, &TIGHT);
    let old = ask(&mut connection, "0");
    let new = ask(&mut connection, "0");
    assert_eq!(old.slot(), new.slot());
    assert_eq!(connection.accept(old, sid(1)), None);
    assert_eq!(connection.refuse(old, "late", None), None);
    assert!(connection.accept(new, sid(2)).is_some());
    assert_eq!(connection.accept(new, sid(3)), None);
    assert_eq!(connection.sid(new.slot()), Some(&sid(2)));
}

#[test]
fn nothing_may_come_before_the_answer_to_connect() {
    for text in [r#"2["x"]"#, "31[]", "1", r#"51-["x"]"#, r#"2/other,["x"]"#] {
        let mut connection = Namespaces::new(0, &TIGHT);
        assert_eq!(violation(connection.on_text(text, &TIGHT)), Violation::NotConnected, "{text}");
        let mut connection = Namespaces::new(0, &TIGHT);
        ask(&mut connection, "0");
        assert_eq!(violation(connection.on_text(text, &TIGHT)), Violation::NotConnected, "{text}");
    }
}

#[test]
fn a_client_is_in_a_namespace_once_and_never_sends_server_packets() {
    let mut connection = main();
    assert_eq!(violation(connection.on_text("0", &TIGHT)), Violation::AlreadyConnected);
    assert_eq!(violation(main().on_text(r#"4{"message":"x"}"#, &TIGHT)), Violation::PacketType);
}

#[test]
fn namespaces_are_independent_and_places_are_used_again() {
    let mut connection = main();
    let custom = enter(&mut connection, "0/custom");
    assert_eq!(event(connection.on_text(r#"2/custom,["a"]"#, &TIGHT)).slot, custom);
    assert_eq!(connection.connected().count(), 2);
    assert!(matches!(connection.on_text("1/custom", &TIGHT), Step::Disconnect(slot) if slot == custom));
    assert_eq!(connection.name(custom), None);
    let message = event(connection.on_text(r#"2["message","to main"]"#, &TIGHT));
    assert_ne!(message.slot, custom);
    assert_eq!(enter(&mut connection, "0/third,"), custom);
    assert_eq!(violation(connection.on_text("1/custom", &TIGHT)), Violation::NotConnected);
}

#[test]
fn what_crossed_the_servers_disconnect_is_ignored() {
    let mut connection = main();
    let slot = enter(&mut connection, "0/room");
    assert!(matches!(
        connection.on_text(r#"51-/room,["up",{"_placeholder":true,"num":0}]"#, &TIGHT),
        Step::Nothing
    ));
    assert_eq!(connection.disconnect(slot).unwrap(), "41/room,");
    assert_eq!(connection.disconnect(slot), None);
    assert!(matches!(bytes(&mut connection, &[1]), Step::Nothing));
    for text in [r#"2/room,["x"]"#, "3/room,1[]", "1/room,"] {
        assert!(matches!(connection.on_text(text, &TIGHT), Step::Nothing), "{text}");
    }
    assert_eq!(violation(connection.on_text("2/room,[]", &TIGHT)), Violation::Payload);
    assert_eq!(connection.connected().count(), 1);
    assert_eq!(enter(&mut connection, "0/room"), slot);
}

#[test]
fn the_number_of_namespaces_is_bounded() {
    let mut connection = Namespaces::new(0, &TIGHT);
    let slots: Vec<Slot> =
        (0..MAX_NAMESPACES).map(|number| enter(&mut connection, &format!("0/n{number}"))).collect();
    assert_eq!(violation(connection.on_text("0/more", &TIGHT)), Violation::TooManyNamespaces);
    assert!(connection.disconnect(slots[3]).is_some());
    assert_eq!(enter(&mut connection, "0/more"), slots[3]);
}

#[test]
fn events_carry_name_arguments_and_the_wish_for_an_acknowledgement() {
    let mut connection = main();
    let got = event(connection.on_text(r#"2456["message-with-ack",1,"2",{"3":[false]}]"#, &TIGHT));
    assert!(matches!(got.name, Cow::Borrowed("message-with-ack")));
    assert_eq!(got.ack, Some(456));
    assert_eq!(got.args.iter().collect::<Vec<_>>(), ["1", r#""2""#, r#"{"3":[false]}"#]);
    assert_eq!(encode::ack("/", 456, got.args.iter(), 0), r#"43456[1,"2",{"3":[false]}]"#);
}

#[test]
fn acknowledgements_come_back_with_their_id() {
    let mut connection = main();
    let (first, second) = (connection.new_ack_id(), connection.new_ack_id());
    assert_ne!(first, second);
    let text = format!(r#"3{second}["ok"]"#);
    let Step::Ack(ack) = connection.on_text(&text, &TIGHT) else { panic!("no ACK") };
    assert_eq!((ack.id, ack.args.get(0)), (second, Some(r#""ok""#)));
    assert!(matches!(connection.on_text("31[]", &TIGHT), Step::Ack(ack) if ack.args.is_empty()));
    assert_eq!(violation(connection.on_text("3[]", &TIGHT)), Violation::AckId);
}

#[test]
fn broken_packets_close_the_connection() {
    let cases = [
        ("abc", Violation::PacketType),
        ("2{}", Violation::Payload),
        (r#"2abc["message-with-ack",1]"#, Violation::Payload),
        ("2[]", Violation::Payload),
        (r#"2["a""#, Violation::Payload),
        ("2[7]", Violation::EventName),
        (r#"2["disconnect"]"#, Violation::EventName),
        ("51-[]", Violation::Payload),
        (r#"51-["a",{"_placeholder":true,"num":1}]"#, Violation::Placeholder),
    ];
    for (text, expected) in cases {
        assert_eq!(violation(main().on_text(text, &TIGHT)), expected, "{text}");
    }
}

#[test]
fn an_event_waits_for_all_its_attachments() {
    let mut connection = main();
    let text = r#"52-789["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    assert!(matches!(connection.on_text(text, &TIGHT), Step::Nothing));
    assert!(matches!(bytes(&mut connection, &[1, 2, 3]), Step::Nothing));
    let Step::Complete(whole) = bytes(&mut connection, &[4, 5, 6]) else { panic!("not complete") };
    let got = event(whole.read());
    assert_eq!((got.name.as_ref(), got.ack), ("message", Some(789)));
    assert_eq!(got.args.attachments().len(), 2);
    assert_eq!(got.args.bytes(1).unwrap().as_ref(), [4, 5, 6]);
    assert_eq!(
        encode::ack("/", 789, got.args.iter(), got.args.attachments().len()),
        r#"462-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#
    );
    assert_eq!(violation(bytes(&mut connection, &[7])), Violation::UnexpectedBinary);
}

#[test]
fn acknowledgements_may_have_attachments_too() {
    let mut connection = main();
    let text = r#"61-15["bar",{"_placeholder":true,"num":0}]"#;
    assert!(matches!(connection.on_text(text, &TIGHT), Step::Nothing));
    let Step::Complete(whole) = connection.on_binary(Cow::Owned(vec![9]), &TIGHT) else {
        panic!("not complete")
    };
    let Step::Ack(ack) = whole.read() else { panic!("no ACK") };
    assert_eq!((ack.id, ack.args.bytes(1).unwrap().as_ref()), (15, &[9][..]));
}

#[test]
fn nothing_comes_between_a_packet_and_its_attachments() {
    let mut connection = main();
    assert_eq!(violation(bytes(&mut connection, &[1])), Violation::UnexpectedBinary);
    assert!(matches!(connection.on_text(r#"51-["a"]"#, &TIGHT), Step::Nothing));
    assert_eq!(violation(connection.on_text(r#"2["b"]"#, &TIGHT)), Violation::UnexpectedText);
}

#[test]
fn sizes_are_bounded_and_tighter_for_strangers() {
    let long = format!(r#"0{{"token":"{}"}}"#, "x".repeat(100));
    assert_eq!(violation(Namespaces::new(0, &TIGHT).on_text(&long, &TIGHT)), Violation::TooLarge);
    let mut connection = main();
    let long = format!(r#"2["{}"]"#, "x".repeat(100));
    assert!(matches!(connection.on_text(&long, &TIGHT), Step::Event(_)));
    let long = format!(r#"2["{}"]"#, "x".repeat(200));
    assert_eq!(violation(connection.on_text(&long, &TIGHT)), Violation::TooLarge);
    let mut connection = main();
    assert!(matches!(connection.on_text(r#"53-["a"]"#, &TIGHT), Step::Nothing));
    assert!(matches!(bytes(&mut connection, &[0; 100]), Step::Nothing));
    assert_eq!(violation(bytes(&mut connection, &[0; 100])), Violation::TooLarge);
    let long = format!(r#"2["{}"]"#, "x".repeat(100));
    assert_eq!(violation(accepted().on_text(&long, &TIGHT)), Violation::TooLarge, "accepted is not known");
    let mut connection = accepted();
    assert!(matches!(connection.on_text(r#"52-["a"]"#, &TIGHT), Step::Nothing));
    assert!(connection.is_assembling());
    assert_eq!(violation(bytes(&mut connection, &[0; 100])), Violation::TooLarge);
}

#[test]
fn a_namespace_must_be_granted_in_time() {
    let mut connection = Namespaces::new(10, &TIGHT);
    assert_eq!(connection.next_deadline(), Some(1_010));
    let attempt = ask(&mut connection, "0");
    assert!(connection.refuse(attempt, "no", None).is_some());
    assert!(matches!(connection.on_tick(1_009), Step::Nothing));
    assert_eq!(violation(connection.on_tick(1_010)), Violation::ConnectTimeout);
    assert_eq!(connection.next_deadline(), None);
    let mut connection = main();
    assert_eq!(connection.next_deadline(), None);
    assert!(matches!(connection.on_tick(9_999), Step::Nothing));
}

#[test]
fn who_leaves_the_last_namespace_has_to_enter_another_one_in_time() {
    for (known, until) in [(true, 6_000), (false, 1_000)] {
        let mut connection = if known { main() } else { accepted() };
        assert!(matches!(connection.on_text("1", &TIGHT), Step::Disconnect(_)));
        connection.on_left(5_000, &TIGHT);
        assert_eq!(connection.next_deadline(), Some(until), "a stranger gets no more time");
        assert!(matches!(connection.on_tick(until - 1), Step::Nothing));
        assert_eq!(violation(connection.on_tick(until)), Violation::ConnectTimeout);
    }
}

#[test]
fn violations_have_the_codes_of_plain_websockets() {
    for (violation, code) in [
        (Violation::TooLarge, 1009),
        (Violation::Payload, 1007),
        (Violation::PacketType, 1002),
        (Violation::NotConnected, 1002),
    ] {
        assert_eq!(violation.close_code(), code);
    }
}

proptest! {
    #[test]
    fn no_message_makes_the_connection_panic(
        messages in prop::collection::vec(
            prop_oneof![
                r#"[0-6](1-)?(/[ab],)?[0-9]{0,2}(\["a",\{"_placeholder":true,"num":[01]\}\]|\{\}|\[\])?"#.prop_map(Ok),
                ".{0,20}".prop_map(Ok),
                prop::collection::vec(any::<u8>(), 0..10).prop_map(Err),
            ],
            0..20,
        ),
    ) {
        let mut connection = Namespaces::new(0, &TIGHT);
        for message in &messages {
            let step = match message {
                Ok(text) => connection.on_text(text, &TIGHT),
                Err(bytes) => connection.on_binary(Cow::Borrowed(bytes), &TIGHT),
            };
            match step {
                Step::Connect { attempt, .. } => prop_assert!(connection.accept(attempt, sid(1)).is_some()),
                Step::Complete(whole) => prop_assert!(!matches!(whole.read(), Step::Close(_))),
                Step::Disconnect(slot) => prop_assert_eq!(connection.name(slot), None),
                _ => {}
            }
        }
    }

    #[test]
    fn attachments_arrive_whole_and_in_order(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 1..=16),
    ) {
        let mut connection = main();
        let places: Vec<String> = (0..parts.len()).map(encode::placeholder).collect();
        let to = encode::Address::new("/", "file");
        let text = encode::event(to, places.iter().map(String::as_str), parts.len());
        let config = Config::default();
        prop_assert!(matches!(connection.on_text(&text[1..], &config), Step::Nothing));
        let (last, first) = parts.split_last().unwrap();
        for part in first {
            prop_assert!(matches!(connection.on_binary(Cow::Borrowed(part), &config), Step::Nothing));
        }
        let Step::Complete(whole) = connection.on_binary(Cow::Borrowed(last), &config) else { panic!() };
        let got = event(whole.read());
        for (index, part) in parts.iter().enumerate() {
            prop_assert_eq!(got.args.bytes(index).unwrap().as_ref(), part.as_slice());
        }
    }
}
