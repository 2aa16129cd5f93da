//! One client socket: what is still to be written, and the start of a frame that has not come whole yet.
use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};

pub struct Connection {
    pub socket: TcpStream,
    pub upgraded: bool,
    /// Bytes read that do not make a whole frame yet.
    carry: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

/// How a read ended.
pub enum Got {
    /// Bytes in the buffer, the carried ones included; `more` if the socket may hold further ones.
    Bytes {
        len: usize,
        more: bool,
    },
    Nothing,
}

impl Connection {
    pub fn new(socket: TcpStream) -> Self {
        Connection { socket, upgraded: false, carry: Vec::new(), out: Vec::new(), written: 0 }
    }

    /// Puts the carried bytes and what the socket holds into `buf`, which grows if a frame is larger than it.
    pub fn read(&mut self, buf: &mut Vec<u8>) -> Result<Got, String> {
        let start = self.carry.len();
        if buf.len() < start + 32 * 1024 {
            buf.resize(start * 2 + 64 * 1024, 0);
        }
        buf[..start].copy_from_slice(&self.carry);
        let room = buf.len() - start;
        loop {
            match self.socket.read(&mut buf[start..]) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(n) => {
                    self.carry.clear();
                    return Ok(Got::Bytes { len: start + n, more: n == room });
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Got::Nothing),
                Err(e) => return Err(format!("read: {e}")),
            }
        }
    }

    pub fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            // Idle connections own no memory here either, so that ten thousand fit in the cache.
            self.carry = Vec::new();
        } else {
            self.carry.extend_from_slice(rest);
        }
    }

    /// Bytes to be written by the next `flush`.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes until nothing is left or the socket is full; the poll tells when it goes on.
    pub fn flush(&mut self) -> Result<(), String> {
        while self.written < self.out.len() {
            match self.socket.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Not connected yet counts as full: the first writable event starts the writing.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(e) => return Err(format!("write: {e}")),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}
