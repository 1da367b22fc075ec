//! The client's side of a websocket by hand (RFC 6455), as a stream of bytes. No TLS, no compression.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A websocket whose data frames are read and written as one stream of bytes, whatever their borders.
#[derive(Debug)]
pub(crate) struct WebSocket {
    socket: TcpStream,
    /// Came from the server, not taken apart yet.
    raw: Vec<u8>,
    /// Payload that nobody has read yet.
    payload: Vec<u8>,
    closed: bool,
}

impl WebSocket {
    /// Connects and shakes hands.
    pub(crate) fn open(address: SocketAddr) -> io::Result<WebSocket> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(crate::wait::PATIENCE))?;
        // The key is the example of RFC 6455; it guards against caches, of which there are none here.
        write!(
            socket,
            "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let words = String::from_utf8_lossy(&head).into_owned();
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, words));
        }
        Ok(WebSocket { socket, raw: Vec::new(), payload: Vec::new(), closed: false })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn frame(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut bytes = vec![0x80 | opcode];
        // Clients must mask: the mask is four zero bytes, which change nothing.
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | short as u8),
            middle @ 126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((middle as u16).to_be_bytes());
            }
            long => {
                bytes.push(0x80 | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.socket.write_all(&bytes)
    }

    /// The next whole frame out of what came so far.
    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let opcode = self.raw.first()? & 0x0f;
        let (start, length) = match self.raw.get(1)? & 0x7f {
            126 => (4, number(self.raw.get(2..4)?)),
            127 => (10, number(self.raw.get(2..10)?)),
            short => (2, usize::from(short)),
        };
        let payload = self.raw.get(start..start + length)?.to_vec();
        self.raw.drain(..start + length);
        Some((opcode, payload))
    }
}

impl Read for WebSocket {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.payload.is_empty() && !self.closed {
            match self.take() {
                Some((CONTINUED | TEXT | BINARY, payload)) => self.payload = payload,
                Some((PING, payload)) => self.frame(PONG, &payload)?,
                Some((CLOSE, _)) => self.closed = true,
                Some(_) => {}
                None => {
                    let mut chunk = [0; 8192];
                    let count = self.socket.read(&mut chunk)?;
                    self.closed = count == 0;
                    self.raw.extend_from_slice(&chunk[..count]);
                }
            }
        }
        let count = self.payload.as_slice().read(to)?;
        self.payload.drain(..count);
        Ok(count)
    }
}

impl Write for WebSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame(BINARY, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
