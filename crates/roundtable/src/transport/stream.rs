//! A client's socket, plain or encrypted: the same reads and writes, which never wait.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Reads of the socket for one piece of plain text. A client that sends records without content gets its turn again later.
const READS: usize = 16;

/// A connected socket. A plain one is as small as the bare socket.
pub enum Stream {
    /// Bytes go as they are.
    Plain(TcpStream),
    /// Bytes go encrypted; the handshake is over.
    Tls(Box<Tls>),
}

/// An encrypted socket.
pub struct Tls {
    tcp: TcpStream,
    session: RefCell<ServerConnection>,
}

/// A socket on its way to another thread, on no runtime.
pub struct Detached {
    tcp: std::net::TcpStream,
    session: Option<Box<ServerConnection>>,
}

/// The socket as rustls uses it: nothing waits.
struct Bare<'a>(&'a TcpStream);

impl Read for Bare<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Bare<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Takes a client through the handshake. Fails when it does not speak TLS, or has nothing in common with this server; an
/// alert has told it then. How long it may take is the caller's to say.
pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let mut session = ServerConnection::new(config).map_err(broken)?;
    loop {
        while session.wants_write() {
            match session.write_tls(&mut Bare(&tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => tcp.writable().await?,
                Err(error) => return Err(error),
            }
        }
        if !session.is_handshaking() {
            return Ok(Stream::Tls(Box::new(Tls { tcp, session: RefCell::new(session) })));
        }
        tcp.readable().await?;
        match session.read_tls(&mut Bare(&tcp)) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                if let Err(error) = session.process_new_packets() {
                    // The alert; whoever does not read it is not waited for.
                    let _ = session.write_tls(&mut Bare(&tcp));
                    return Err(broken(error));
                }
                // Keys and signatures take a while: the shard's other connections come first now.
                tokio::task::yield_now().await;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

impl Tls {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        for _ in 0..READS {
            match session.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            session.read_tls(&mut Bare(&self.tcp))?;
            if let Err(error) = session.process_new_packets() {
                let _ = session.write_tls(&mut Bare(&self.tcp));
                return Err(broken(error));
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    fn write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        let taken = self.session.borrow_mut().writer().write_vectored(bufs)?;
        match self.flush() {
            // It is taken; the rest goes with the next write or flush.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(taken),
            flushed => flushed.map(|()| taken),
        }
    }

    fn flush(&self) -> io::Result<()> {
        let mut session = self.session.borrow_mut();
        while session.wants_write() {
            session.write_tls(&mut Bare(&self.tcp))?;
        }
        Ok(())
    }

    /// Whether something can be read without a look at the socket: a handshake or an upgrade may leave bytes behind.
    fn holds_input(&self) -> bool {
        let state = self.session.borrow_mut().process_new_packets();
        state.map_or(true, |state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
    }

    /// Tells the client that nothing more comes.
    fn say_goodbye(&self) {
        self.session.borrow_mut().send_close_notify();
        // A client that reads nothing learns it from the end of the socket.
        let _ = self.flush();
    }
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.tcp,
        }
    }

    /// Reads what is there; 0 is the end. Fails with [`ErrorKind::WouldBlock`] when nothing is. Encrypted sockets want at
    /// least 32 KiB of room: what one read leaves behind is not waited for.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(buf),
            Self::Tls(tls) => tls.read(buf),
        }
    }

    /// Writes what fits. Fails with [`ErrorKind::WouldBlock`] when nothing does.
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, bufs) {
            // One frame is the common case, and `send` costs the kernel less than `writev`.
            (Self::Plain(tcp), [one]) => tcp.try_write(one),
            (Self::Plain(tcp), _) => tcp.try_write_vectored(bufs),
            (Self::Tls(tls), _) => tls.write(bufs),
        }
    }

    /// Writes what fits, as [`Stream::try_write_vectored`].
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes what was taken and is encrypted already. Fails with [`ErrorKind::WouldBlock`] while some of it waits.
    pub fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Waits until there may be something to read.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tls(tls) if tls.holds_input() => Ok(()),
            _ => self.tcp().readable().await,
        }
    }

    /// Waits until the socket may take something.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Ends the direction towards the client; it may still send.
    pub fn finish(&self) {
        self.end(Shutdown::Write);
    }

    /// Ends it in both directions; its reader sees the end.
    pub fn shut(&self) {
        self.end(Shutdown::Both);
    }

    fn end(&self, how: Shutdown) {
        if let Self::Tls(tls) = self {
            tls.say_goodbye();
        }
        // Fails only if the other side was faster.
        let _ = socket2::SockRef::from(self.tcp()).shutdown(how);
    }

    /// Takes it off its runtime.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Plain(tcp) => Detached { tcp: tcp.into_std()?, session: None },
            Self::Tls(tls) => {
                let Tls { tcp, session } = *tls;
                Detached { tcp: tcp.into_std()?, session: Some(Box::new(session.into_inner())) }
            }
        })
    }
}

impl Detached {
    /// Puts it on the present runtime.
    pub fn attach(self) -> io::Result<Stream> {
        let tcp = TcpStream::from_std(self.tcp)?;
        Ok(match self.session {
            None => Stream::Plain(tcp),
            Some(session) => Stream::Tls(Box::new(Tls { tcp, session: RefCell::new(*session) })),
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => loop {
                match tls.read(buf.initialize_unfilled()) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        ready!(tls.tcp.poll_read_ready(cx))?;
                    }
                    read => return Poll::Ready(read.map(|count| buf.advance(count))),
                }
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => loop {
                match tls.write(bufs) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        ready!(tls.tcp.poll_write_ready(cx))?;
                    }
                    written => return Poll::Ready(written),
                }
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => loop {
                match tls.flush() {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        ready!(tls.tcp.poll_write_ready(cx))?;
                    }
                    flushed => return Poll::Ready(flushed),
                }
            },
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Tls(tls) = &mut *self {
            tls.session.borrow_mut().send_close_notify();
            ready!(self.as_mut().poll_flush(cx))?;
        }
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut tls.tcp).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Stream, TcpStream};

    #[test]
    fn a_plain_stream_is_as_small_as_its_socket() {
        assert_eq!(size_of::<Stream>(), size_of::<TcpStream>());
    }
}
