//! The rules of an Engine.IO session: heartbeat, one request at a time, upgrade, ends.

use proptest::prelude::*;

use super::*;

const QUICK: Config =
    Config { ping_interval: 300, ping_timeout: 200, upgrade_timeout: 400, max_payload: 1_000_000 };

fn sid() -> Sid {
    Sid::from_random([7; 15])
}

fn polling() -> Engine {
    Engine::open(sid(), false, 0, &QUICK)
}

fn websocket() -> Engine {
    Engine::open(sid(), true, 0, &QUICK)
}

fn upgrading() -> Engine {
    let mut engine = polling();
    assert!(engine.on_upgrade_open(10, &QUICK));
    assert_eq!(engine.on_ws_text("2probe", 20, &QUICK), Action::AnswerProbe.into());
    engine
}

fn posted<'a>(engine: &mut Engine, body: &'a str, now: u64) -> Vec<Step<'a>> {
    assert_eq!(engine.on_post_start(), Post::Read);
    let steps = payload::decode(body).map(|packet| engine.on_post_packet(packet, now, &QUICK)).collect();
    engine.on_post_end();
    steps
}

fn closed(waiting_poll: Option<PollAnswer>, reason: CloseReason) -> Step<'static> {
    Step { waiting_poll, action: Action::Closed(reason) }
}

fn text(message: &str) -> Step<'_> {
    Action::Message(Message::Text(message)).into()
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<Engine>() <= 64, "{}", size_of::<Engine>());
    assert!(!std::mem::needs_drop::<Engine>());
}

#[test]
fn the_open_packet_offers_the_upgrade_to_polling_only() {
    let id = sid();
    let rest = r#""pingInterval":300,"pingTimeout":200,"maxPayload":1000000}"#;
    let expected = |upgrades| format!(r#"0{{"sid":"{}","upgrades":{upgrades},{rest}"#, id.as_str());
    assert_eq!(polling().open_packet(&QUICK), expected(r#"["websocket"]"#));
    assert_eq!(websocket().open_packet(&QUICK), expected("[]"));
}

#[test]
fn the_first_ping_comes_only_after_the_interval() {
    let mut engine = websocket();
    assert_eq!(engine.next_deadline(), Some(300));
    assert_eq!(engine.on_tick(299, &QUICK), Step::NOTHING);
    assert_eq!(engine.on_tick(300, &QUICK), Action::SendPing.into());
    assert_eq!(engine.on_tick(301, &QUICK), Step::NOTHING, "one ping, not two");
}

#[test]
fn a_pong_schedules_the_next_ping_and_silence_closes() {
    let mut engine = websocket();
    let _ = engine.on_tick(300, &QUICK);
    assert_eq!(engine.on_ws_text("3", 450, &QUICK), Step::NOTHING);
    assert_eq!(engine.next_deadline(), Some(750));
    assert_eq!(engine.on_tick(750, &QUICK), Action::SendPing.into());
    assert_eq!(engine.on_tick(949, &QUICK), Step::NOTHING);
    assert_eq!(engine.on_tick(950, &QUICK), closed(None, CloseReason::PingTimeout));
    assert_eq!(engine.next_deadline(), None);
    assert_eq!(engine.on_tick(9_999, &QUICK), Step::NOTHING);
}

#[test]
fn bytes_and_a_post_under_way_are_signs_of_life() {
    let mut engine = websocket();
    let _ = engine.on_tick(300, &QUICK);
    engine.on_bytes(500, &QUICK);
    assert_eq!(engine.on_tick(500, &QUICK), Step::NOTHING);
    assert_eq!(engine.on_tick(700, &QUICK), closed(None, CloseReason::PingTimeout));

    let mut engine = polling();
    let _ = engine.on_tick(300, &QUICK);
    assert_eq!(engine.on_post_start(), Post::Read);
    assert_eq!(engine.on_tick(500, &QUICK), Step::NOTHING);
    assert_eq!(engine.on_poll_get(true, 700), Get::Packets);
    engine.on_post_end();
    assert_eq!(engine.on_tick(700, &QUICK), closed(None, CloseReason::PingTimeout));
}

#[test]
fn pongs_nobody_asked_for_do_not_put_off_the_ping() {
    let mut engine = websocket();
    assert_eq!(engine.on_ws_text("3", 299, &QUICK), Step::NOTHING);
    assert_eq!(engine.on_tick(300, &QUICK), Action::SendPing.into());
}

#[test]
fn a_late_timer_does_not_stretch_the_timeout_but_a_stall_is_forgiven() {
    let mut engine = polling();
    assert_eq!(engine.on_tick(330, &QUICK), Action::SendPing.into());
    assert_eq!(engine.next_deadline(), Some(500));
    assert_eq!(
        engine.on_poll_get(true, 500),
        Get::Close(RequestError::UnknownSid, None, CloseReason::PingTimeout)
    );
    let mut engine = polling();
    assert_eq!(engine.on_tick(5_000, &QUICK), Action::SendPing.into());
    assert_eq!(engine.next_deadline(), Some(5_200));
}

#[test]
fn a_ping_answers_the_waiting_poll() {
    let mut engine = polling();
    assert_eq!(engine.on_poll_get(false, 5), Get::Wait);
    assert_eq!(engine.on_tick(300, &QUICK), Action::SendPing.into());
    assert!(engine.take_poll());
    assert!(!engine.take_poll(), "a poll is answered once");
    assert_eq!(posted(&mut engine, "3", 310), [Step::NOTHING]);
    assert_eq!(engine.next_deadline(), Some(610));
    assert_eq!(engine.on_poll_get(false, 320), Get::Wait);
}

#[test]
fn queued_packets_answer_a_poll_at_once() {
    let mut engine = polling();
    assert!(!engine.take_poll());
    assert_eq!(engine.on_poll_get(true, 5), Get::Packets);
    assert_eq!(engine.on_poll_get(true, 6), Get::Packets, "the first one is not under way any more");
}

#[test]
fn a_second_poll_closes_the_session() {
    let mut engine = polling();
    assert_eq!(engine.on_poll_get(false, 5), Get::Wait);
    assert_eq!(
        engine.on_poll_get(false, 10),
        Get::Close(RequestError::BadRequest, Some(PollAnswer::Last), CloseReason::Overlap)
    );
    assert_eq!(engine.on_poll_get(false, 15), Get::Refuse(RequestError::UnknownSid));
    assert_eq!(engine.on_post_start(), Post::Refuse(RequestError::UnknownSid));
}

#[test]
fn a_second_post_closes_the_session() {
    let mut engine = polling();
    assert_eq!(engine.on_poll_get(false, 1), Get::Wait);
    assert_eq!(engine.on_post_start(), Post::Read);
    assert_eq!(
        engine.on_post_start(),
        Post::Close(RequestError::BadRequest, Some(PollAnswer::Last), CloseReason::Overlap)
    );
    let late = Ok(Packet::Message(Message::Text("x")));
    assert_eq!(engine.on_post_packet(late, 2, &QUICK), Step::NOTHING);
}

#[test]
fn cut_polls_and_failed_posts_close_the_session() {
    let mut engine = polling();
    assert_eq!(engine.on_poll_aborted(), Step::NOTHING, "no poll was under way");
    assert_eq!(engine.on_poll_get(false, 5), Get::Wait);
    assert_eq!(engine.on_poll_aborted(), closed(None, CloseReason::TransportClosed));
    let mut engine = polling();
    assert_eq!(engine.on_post_start(), Post::Read);
    assert_eq!(engine.on_post_failed(CloseReason::TooLarge), closed(None, CloseReason::TooLarge));
    assert_eq!(CloseReason::TooLarge.post_error(), Some(RequestError::BadRequest));
}

#[test]
fn messages_of_a_post_come_in_order() {
    let mut engine = polling();
    let bytes = Action::Message(Message::Binary(Cow::Owned(vec![1, 2, 3, 4]))).into();
    assert_eq!(
        posted(&mut engine, "4test1\u{1e}bAQIDBA==\u{1e}4test3", 1),
        [text("test1"), bytes, text("test3")]
    );
}

#[test]
fn invalid_packets_close_every_transport() {
    for body in ["abc", "", "4ok\u{1e}9", "2", "5", "0"] {
        let mut engine = polling();
        let last = posted(&mut engine, body, 1).pop().unwrap();
        assert_eq!(last, closed(None, CloseReason::InvalidPacket), "{body}");
        assert_eq!(engine.on_poll_get(false, 2), Get::Refuse(RequestError::UnknownSid));
    }
    assert_eq!(CloseReason::InvalidPacket.post_error(), Some(RequestError::BadRequest));
    for frame in ["abc", "", "2", "2probe", "5", "bAQIDBA==", "0{}"] {
        let mut engine = websocket();
        assert_eq!(engine.on_ws_text(frame, 1, &QUICK), closed(None, CloseReason::InvalidPacket), "{frame}");
    }
}

#[test]
fn a_close_packet_gives_the_open_poll_a_noop() {
    let mut engine = polling();
    assert_eq!(engine.on_poll_get(false, 1), Get::Wait);
    let steps = posted(&mut engine, "1", 2);
    assert_eq!(steps, [closed(Some(PollAnswer::Noop), CloseReason::ClientClose)]);
    assert_eq!(CloseReason::ClientClose.post_error(), None);
    assert_eq!(websocket().on_ws_text("1", 1, &QUICK), closed(None, CloseReason::ClientClose));
}

#[test]
fn frames_of_a_websocket_are_messages() {
    let mut engine = websocket();
    assert_eq!(engine.on_ws_text("4hello", 1, &QUICK), text("hello"));
    let bytes = Action::Message(Message::Binary(Cow::Borrowed(&[1, 2]))).into();
    assert_eq!(engine.on_ws_binary(&[1, 2]), bytes);
    assert_eq!(engine.on_ws_text("6", 1, &QUICK), Step::NOTHING);
    assert_eq!(engine.on_ws_closed(), closed(None, CloseReason::TransportClosed));
    assert_eq!(engine.on_ws_closed(), Step::NOTHING);
}

#[test]
fn an_upgrade_releases_the_open_poll_with_a_noop() {
    let mut engine = polling();
    assert_eq!(engine.on_poll_get(false, 1), Get::Wait);
    assert!(engine.on_upgrade_open(10, &QUICK));
    assert_eq!(engine.mode(), Mode::Probing);
    let step = engine.on_ws_text("2probe", 20, &QUICK);
    assert_eq!(step, Step { waiting_poll: Some(PollAnswer::Noop), action: Action::AnswerProbe });
    assert!(!engine.take_poll());
    assert_eq!(engine.on_poll_get(true, 25), Get::Noop, "queued packets stay for the websocket");
    assert_eq!(posted(&mut engine, "4still here", 26), [text("still here")]);
    assert_eq!(engine.on_ws_text("5", 30, &QUICK), Action::Upgraded.into());
    assert_eq!(engine.mode(), Mode::WebSocket);
    assert_eq!(engine.on_ws_text("4hello", 31, &QUICK), text("hello"));
}

#[test]
fn polling_goes_on_as_usual_until_the_probe() {
    let mut engine = polling();
    assert!(engine.on_upgrade_open(10, &QUICK));
    assert_eq!(engine.on_poll_get(true, 11), Get::Packets);
    assert_eq!(engine.on_poll_get(false, 12), Get::Wait);
    assert!(engine.take_poll());
}

#[test]
fn after_the_upgrade_requests_and_second_websockets_are_refused_without_harm() {
    let mut engine = upgrading();
    assert!(!engine.on_upgrade_open(21, &QUICK), "already upgrading");
    let _ = engine.on_ws_text("5", 30, &QUICK);
    assert!(!engine.on_upgrade_open(31, &QUICK), "already upgraded");
    assert_eq!(engine.on_poll_get(false, 32), Get::Refuse(RequestError::BadRequest));
    assert_eq!(engine.on_post_start(), Post::Refuse(RequestError::BadRequest));
    assert_eq!(engine.on_ws_text("4hello", 33, &QUICK), text("hello"));
    assert!(!websocket().on_upgrade_open(1, &QUICK));
}

#[test]
fn a_failed_upgrade_leaves_the_session_polling() {
    for frame in ["5", "4early", "2", "3probe", "abc", ""] {
        let mut engine = polling();
        assert!(engine.on_upgrade_open(10, &QUICK));
        assert_eq!(engine.on_ws_text(frame, 20, &QUICK), Action::AbandonUpgrade.into(), "{frame}");
        assert_eq!(engine.on_ws_text("5", 21, &QUICK), Step::NOTHING, "that socket is done with");
        assert_eq!(engine.on_poll_get(true, 22), Get::Packets);
        assert!(engine.on_upgrade_open(23, &QUICK), "and may try again");
    }
    let mut engine = upgrading();
    assert_eq!(engine.on_ws_closed(), Step::NOTHING);
    assert_eq!(engine.on_poll_get(true, 22), Get::Packets);
    let mut engine = upgrading();
    assert_eq!(engine.on_ws_binary(&[1]), Action::AbandonUpgrade.into());
    assert_eq!(engine.mode(), Mode::Polling);
}

#[test]
fn an_upgrade_has_limited_time() {
    let mut engine = upgrading();
    assert_eq!(engine.on_tick(300, &QUICK), Action::SendPing.into());
    assert_eq!(posted(&mut engine, "3", 350), [Step::NOTHING]);
    assert_eq!(engine.next_deadline(), Some(410));
    assert_eq!(engine.on_tick(410, &QUICK), Action::AbandonUpgrade.into());
    assert_eq!(engine.next_deadline(), Some(650));
}

#[test]
fn a_ping_that_waited_for_the_upgrade_gets_its_whole_timeout() {
    let mut engine = upgrading();
    assert_eq!(engine.on_tick(300, &QUICK), Action::SendPing.into());
    assert_eq!(engine.on_ws_text("5", 390, &QUICK), Action::Upgraded.into());
    assert_eq!(engine.next_deadline(), Some(590));
    assert_eq!(engine.on_ws_text("3", 400, &QUICK), Step::NOTHING);
    assert_eq!(engine.next_deadline(), Some(700));
}

#[test]
fn the_servers_close_reaches_a_polling_client() {
    let mut engine = polling();
    assert_eq!(engine.on_poll_get(false, 1), Get::Wait);
    assert_eq!(engine.close(2, &QUICK), closed(Some(PollAnswer::Last), CloseReason::ServerClose));

    let mut engine = polling();
    assert_eq!(engine.close(2, &QUICK), Step::NOTHING);
    assert_eq!(engine.close(3, &QUICK), Step::NOTHING);
    assert_eq!(posted(&mut engine, "4ignored", 4), [Step::NOTHING]);
    assert!(!engine.on_upgrade_open(5, &QUICK));
    assert_eq!(engine.on_poll_get(true, 6), Get::Last);
    assert_eq!(engine.mode(), Mode::Closed);

    let mut engine = polling();
    assert_eq!(engine.close(2, &QUICK), Step::NOTHING);
    assert_eq!(engine.next_deadline(), Some(202));
    assert_eq!(engine.on_tick(202, &QUICK), closed(None, CloseReason::ServerClose));
}

#[test]
fn the_servers_close_waits_for_an_upgrade_under_way() {
    let mut engine = upgrading();
    assert_eq!(engine.close(30, &QUICK), Step::NOTHING);
    assert_eq!(engine.on_poll_get(true, 31), Get::Noop);
    assert_eq!(engine.on_ws_text("5", 32, &QUICK), closed(None, CloseReason::ServerClose));

    let mut engine = upgrading();
    assert_eq!(engine.close(30, &QUICK), Step::NOTHING);
    assert_eq!(engine.on_ws_closed(), Step::NOTHING);
    assert_eq!(engine.on_poll_get(true, 40), Get::Last);
    assert_eq!(websocket().close(1, &QUICK), closed(None, CloseReason::ServerClose));
}

#[derive(Debug, Clone)]
enum Input {
    Queue,
    Get,
    Post(String),
    UpgradeOpen,
    Frame(String),
    Gone,
    Tick(u64),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        3 => Just(Input::Queue),
        3 => Just(Input::Get),
        1 => "(4a|3|6|4b\u{1e}4c)".prop_map(Input::Post),
        2 => Just(Input::UpgradeOpen),
        4 => "(2probe|5|4x|3)".prop_map(Input::Frame),
        1 => Just(Input::Gone),
        2 => (0_u64..120).prop_map(Input::Tick),
    ]
}

/// A caller as the module's text describes it: numbers are queued, and noted where they reach the client.
#[derive(Default)]
struct Caller {
    queue: Vec<u32>,
    received: Vec<u32>,
    next: u32,
    now: u64,
    waiting: bool,
    socket: bool,
}

impl Caller {
    fn flush(&mut self) {
        self.received.append(&mut self.queue);
    }

    fn step(&mut self, engine: &mut Engine, step: &Step<'_>) {
        if step.waiting_poll.is_some() {
            assert!(self.waiting, "only a poll that waits can be answered");
            self.waiting = false;
        }
        if step.waiting_poll == Some(PollAnswer::Last) {
            self.flush();
        }
        match step.action {
            Action::Upgraded => self.flush(),
            Action::AbandonUpgrade => self.socket = false,
            Action::SendPing => self.after_queueing(engine),
            _ => {}
        }
    }

    fn after_queueing(&mut self, engine: &mut Engine) {
        if engine.mode() == Mode::WebSocket {
            self.flush();
        } else if engine.take_poll() {
            assert!(self.waiting);
            self.waiting = false;
            self.flush();
        }
    }

    fn feed(&mut self, engine: &mut Engine, input: Input) {
        match input {
            Input::Queue => {
                self.queue.push(self.next);
                self.next += 1;
                self.after_queueing(engine);
            }
            Input::Get if !self.waiting => match engine.on_poll_get(!self.queue.is_empty(), self.now) {
                Get::Wait => self.waiting = true,
                Get::Packets | Get::Last => self.flush(),
                Get::Noop | Get::Refuse(_) | Get::Close(..) => {}
            },
            Input::Post(body) => {
                if engine.on_post_start() == Post::Read {
                    for packet in payload::decode(&body) {
                        let step = engine.on_post_packet(packet, self.now, &QUICK);
                        self.step(engine, &step);
                    }
                    engine.on_post_end();
                }
            }
            Input::UpgradeOpen => self.socket |= engine.on_upgrade_open(self.now, &QUICK),
            Input::Frame(frame) if self.socket => {
                let step = engine.on_ws_text(&frame, self.now, &QUICK);
                self.step(engine, &step);
            }
            Input::Gone if engine.mode() != Mode::WebSocket => {
                self.socket = false;
                let step = engine.on_ws_closed();
                self.step(engine, &step);
            }
            Input::Tick(passed) => {
                self.now += passed;
                let step = engine.on_tick(self.now, &QUICK);
                self.step(engine, &step);
            }
            Input::Get | Input::Frame(_) | Input::Gone => {}
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_reordered_whatever_the_upgrade_does(inputs in prop::collection::vec(input(), 0..80)) {
        let mut engine = polling();
        let mut caller = Caller::default();
        for input in inputs {
            caller.feed(&mut engine, input);
            if engine.mode() == Mode::Closed {
                break;
            }
            if engine.mode() == Mode::WebSocket {
                prop_assert!(caller.queue.is_empty(), "the websocket has everything");
            }
            let all: Vec<u32> = caller.received.iter().chain(&caller.queue).copied().collect();
            prop_assert_eq!(all, (0..caller.next).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_frame_makes_the_session_panic(frames in prop::collection::vec(".{0,12}", 0..20), direct: bool) {
        let mut engine = Engine::open(sid(), direct, 0, &QUICK);
        let _ = engine.on_upgrade_open(0, &QUICK);
        for (now, frame) in frames.iter().enumerate() {
            let _ = engine.on_ws_text(frame, now as u64, &QUICK);
            let _ = engine.on_post_packet(Packet::from_payload(frame), now as u64, &QUICK);
        }
    }
}
