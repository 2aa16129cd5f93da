//! All client sockets on one thread and one epoll: reads are parsed in place in one shared buffer.
use crate::connection::{Connection, Got};
use crate::ws;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

/// Takes the text frames as they come; heartbeats are answered before.
pub trait Handler {
    /// The server answered the upgrade of this connection.
    fn upgraded(&mut self, _conn: usize) {}
    /// `at` is when the bytes were read.
    fn text(&mut self, conn: usize, payload: &[u8], at: Instant) -> Result<(), String>;
    /// The connection is no more; an error ends the run.
    fn failed(&mut self, conn: usize, reason: String) -> Result<(), String> {
        Err(format!("connection {conn}: {reason}"))
    }
}

pub struct Net {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buf: Vec<u8>,
    engineio: bool,
}

/// One loopback address has about 28,000 client ports; past this many connections the next address is taken.
const PORTS_PER_ADDRESS: usize = 20_000;

impl Net {
    pub fn new(engineio: bool) -> Result<Self, String> {
        let poll = Poll::new().map_err(|e| format!("epoll: {e}"))?;
        Ok(Net {
            poll,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            buf: vec![0; 256 * 1024],
            engineio,
        })
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Starts a connection and asks for the upgrade; it has the number `len()` had before.
    pub fn connect(&mut self, addr: SocketAddr, path: &str) -> Result<(), String> {
        let c = self.begin(self.connections.len(), addr, path)?;
        self.connections.push(c);
        Ok(())
    }

    /// Starts a connection in the place of one that is no more.
    pub fn connect_again(&mut self, conn: usize, addr: SocketAddr, path: &str) -> Result<(), String> {
        self.connections[conn] = self.begin(conn, addr, path)?;
        Ok(())
    }

    fn begin(&self, number: usize, addr: SocketAddr, path: &str) -> Result<Connection, String> {
        let mut socket = open(addr, number / PORTS_PER_ADDRESS).map_err(|e| format!("connect: {e}"))?;
        self.poll
            .registry()
            .register(&mut socket, Token(number), Interest::READABLE | Interest::WRITABLE)
            .map_err(|e| format!("epoll: {e}"))?;
        let mut c = Connection::new(socket);
        c.out().extend_from_slice(ws::upgrade(&addr.to_string(), path).as_bytes());
        Ok(c)
    }

    /// Closes a connection without a word, as a client does whose network is gone.
    pub fn cut(&mut self, conn: usize) {
        close(&self.poll, &mut self.connections[conn]);
    }

    /// Queues a text frame; `flush` sends what is queued.
    pub fn queue(&mut self, conn: usize, text: &str) {
        ws::encode(self.connections[conn].out(), ws::TEXT, text.as_bytes());
    }

    pub fn flush(&mut self, conn: usize) -> Result<(), String> {
        self.connections[conn].flush()
    }

    /// Waits for input and hands every whole frame that came to the handler.
    pub fn poll(&mut self, timeout: Duration, handler: &mut impl Handler) -> Result<(), String> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(format!("epoll: {e}")),
            _ => {}
        }
        for event in &self.events {
            let Token(number) = event.token();
            let conn = &mut self.connections[number];
            let written = if event.is_writable() { written(conn) } else { Ok(()) };
            let done = match written {
                Ok(()) if event.is_readable() => {
                    let mut one = Reader { conn, number, engineio: self.engineio, handler };
                    one.drain(&mut self.buf)
                }
                other => other,
            };
            if let Err(e) = done {
                close(&self.poll, &mut self.connections[number]);
                handler.failed(number, e)?;
            }
        }
        Ok(())
    }
}

fn written(conn: &mut Connection) -> Result<(), String> {
    match conn.socket.take_error() {
        Ok(Some(e)) => Err(e.to_string()),
        _ => conn.flush(),
    }
}

/// Nothing is heard of the socket any more; its descriptor goes when another takes its place.
fn close(poll: &Poll, conn: &mut Connection) {
    let _ = poll.registry().deregister(&mut conn.socket);
    let _ = conn.socket.shutdown(Shutdown::Both);
}

fn open(addr: SocketAddr, source: usize) -> std::io::Result<TcpStream> {
    if source == 0 {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        return Ok(socket);
    }
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + source as u8), 0)).into())?;
    match socket.connect(&addr.into()) {
        Err(e) if e.raw_os_error() != Some(EINPROGRESS) => Err(e),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// "Operation now in progress" on Linux, the usual answer to connecting without blocking.
const EINPROGRESS: i32 = 115;

/// One connection with input waiting.
struct Reader<'a, H> {
    conn: &'a mut Connection,
    number: usize,
    engineio: bool,
    handler: &'a mut H,
}

impl<H: Handler> Reader<'_, H> {
    fn drain(&mut self, buf: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let (len, more) = match self.conn.read(buf)? {
                Got::Nothing => return Ok(()),
                Got::Bytes { len, more } => (len, more),
            };
            let at = Instant::now();
            let used = self.frames(&buf[..len], at)?;
            self.conn.keep(&buf[used..len]);
            // A short read means that the socket is empty: no second system call is needed to learn it.
            if !more {
                return Ok(());
            }
        }
    }

    fn frames(&mut self, buf: &[u8], at: Instant) -> Result<usize, String> {
        let mut used = 0;
        if !self.conn.upgraded {
            let Some(head) = ws::upgraded(buf)? else { return Ok(0) };
            used = head;
            self.conn.upgraded = true;
            self.handler.upgraded(self.number);
        }
        while let Some(frame) = ws::parse(&buf[used..]) {
            used += frame.len;
            match frame.head {
                ws::TEXT if self.engineio && frame.payload == b"2" => self.answer(ws::TEXT, b"3")?,
                ws::TEXT => self.handler.text(self.number, frame.payload, at)?,
                ws::PING => self.answer(ws::PONG, frame.payload)?,
                ws::PONG => {}
                ws::CLOSE => {
                    let reason =
                        String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                    let code = frame.payload.get(..2).map_or(0, |c| u16::from(c[0]) << 8 | u16::from(c[1]));
                    return Err(format!("closed by the server with {code} {reason}"));
                }
                other => return Err(format!("a frame this client does not take: first byte {other:#x}")),
            }
        }
        Ok(used)
    }

    fn answer(&mut self, head: u8, payload: &[u8]) -> Result<(), String> {
        ws::encode(self.conn.out(), head, payload);
        self.conn.flush()
    }
}
