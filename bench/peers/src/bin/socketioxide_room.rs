//! Peer: rooms on socketioxide behind axum, events `join` and `msg`.
use serde::{Deserialize, Serialize};
use serde_json::Value;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};

#[global_allocator]
static ALLOCATOR: bench_peers::Allocator = bench_peers::Allocator;

#[derive(Deserialize, Serialize)]
struct Msg {
    room: String,
    data: Value,
}

fn main() {
    bench_peers::run(|listener| async move {
        let (layer, io) = SocketIo::builder().max_buffer_size(100_000).build_layer();
        io.ns("/", async |socket: SocketRef| {
            socket.on("join", async |socket: SocketRef, Data::<String>(room)| {
                socket.join(room.clone());
                let _ = socket.emit("joined", &room);
            });
            socket.on("msg", async |socket: SocketRef, Data::<Msg>(msg), ack: AckSender| {
                let _ = socket.within(msg.room.clone()).emit("msg", &msg).await;
                let _ = ack.send("ok");
            });
        });
        axum::serve(NoDelay(listener), axum::Router::new().layer(layer)).await.expect("a server");
    });
}

/// Switches Nagle's algorithm off for accepted sockets.
struct NoDelay(tokio::net::TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let accepted = axum::serve::Listener::accept(&mut self.0).await;
        let _ = accepted.0.set_nodelay(true);
        accepted
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
