//! Peer: rooms on tokio-websockets, one task and one channel of shared messages per connection.
use futures_util::SinkExt;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_websockets::{Error, Message, ServerBuilder, WebSocketStream};

#[global_allocator]
static ALLOCATOR: bench_peers::Allocator = bench_peers::Allocator;

#[derive(Deserialize)]
struct In<'a> {
    event: &'a str,
    room: &'a str,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Out<'a> {
    event: &'a str,
    room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

type Mailbox = UnboundedSender<Message>;
type Rooms = Arc<Mutex<HashMap<String, Vec<Mailbox>>>>;

fn handle(rooms: &Rooms, own: &Mailbox, text: &str) {
    let Ok(m) = serde_json::from_str::<In>(text) else { return };
    let out = Out { event: if m.event == "join" { "joined" } else { m.event }, room: m.room, data: m.data };
    let Ok(json) = serde_json::to_string(&out) else { return };
    let message = Message::text(json);
    let mut rooms = rooms.lock().unwrap();
    match m.event {
        "join" => {
            rooms.entry(m.room.to_owned()).or_default().push(own.clone());
            let _ = own.send(message);
        }
        "msg" => {
            if let Some(members) = rooms.get_mut(m.room) {
                members.retain(|member| member.send(message.clone()).is_ok());
            }
        }
        _ => {}
    }
}

/// What a connection has to do next.
enum Turn {
    Received(Option<Result<Message, Error>>),
    ToSend,
}

async fn turn(
    socket: &mut WebSocketStream<TcpStream>,
    inbox: &mut UnboundedReceiver<Message>,
    batch: &mut Vec<Message>,
) -> Turn {
    use futures_util::Stream;
    poll_fn(|cx| {
        if inbox.poll_recv_many(cx, batch, 64).is_ready() {
            return Poll::Ready(Turn::ToSend);
        }
        Pin::new(&mut *socket).poll_next(cx).map(Turn::Received)
    })
    .await
}

thread_local! {
    /// Lent to whoever sends, so that idle connections own no list.
    static SPARE: RefCell<Vec<Message>> = const { RefCell::new(Vec::new()) };
}

async fn serve(rooms: Rooms, stream: TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let (_, mut socket) = ServerBuilder::new().accept(stream).await?;
    let (own, mut inbox) = unbounded_channel();
    loop {
        let mut batch = SPARE.take();
        match turn(&mut socket, &mut inbox, &mut batch).await {
            Turn::ToSend => {
                // All that waits goes out in one write.
                for message in batch.drain(..) {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
            Turn::Received(Some(message)) => {
                if let Some(text) = message?.as_text() {
                    handle(&rooms, &own, text);
                }
            }
            Turn::Received(None) => return Ok(()),
        }
        SPARE.set(batch);
    }
}

fn main() {
    bench_peers::run(|listener| async move {
        let rooms = Rooms::default();
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(rooms.clone(), stream));
            }
        }
    });
}
