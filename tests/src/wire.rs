//! The NATS protocol by hand: a client that does exactly what it is told, also what no client library would.
//!
//! Blocking, one connection, no reconnect. Protocol: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::wait::PATIENCE;
use crate::websocket::WebSocket;

/// One message, or one frame of the protocol with its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// `PUB` or `HPUB` of a client.
    Publish {
        /// Where it goes.
        subject: String,
        /// Where the answer shall go.
        reply: Option<String>,
    },
    /// `MSG` or `HMSG` to a client.
    Message(Message),
    /// Everything else, a line.
    Line(String),
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The subject it was published to.
    pub subject: String,
    /// The number of the subscription.
    pub sid: String,
    /// Where an answer shall go.
    pub reply: Option<String>,
    /// `NATS/1.0…` up to the empty line, raw; empty for `MSG`.
    pub headers: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Message {
    /// The status number of the header's first line, such as 503 for no responders.
    pub fn status(&self) -> Option<u16> {
        let text = String::from_utf8_lossy(&self.headers);
        text.lines().next()?.strip_prefix("NATS/1.0")?.split_whitespace().next()?.parse().ok()
    }

    /// The payload as JSON, `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }

    /// Header names and values in order, doubled ones too.
    pub fn header_lines(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.headers).into_owned();
        let pair =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        text.lines().skip(1).filter_map(pair).collect()
    }
}

/// Reads one frame: its bytes as they came, and what they mean. `None` at the end of the stream.
///
/// # Errors
/// Of the stream, and `InvalidData` for a frame that the protocol does not have.
pub fn read_frame(from: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, Frame)>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if !bytes.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    let verb = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    let odd = || io::Error::new(io::ErrorKind::InvalidData, format!("odd frame: {line}"));
    // The verb, the words that always stand before the optional reply, and whether a header's length comes too.
    let (fixed, headers) = match verb.as_str() {
        "PUB" => (1, false),
        "HPUB" => (1, true),
        "MSG" => (2, false),
        "HMSG" => (2, true),
        _ => return Ok(Some((bytes, Frame::Line(line)))),
    };
    let lengths = if headers { 2 } else { 1 };
    let (names, numbers) = words.split_at_checked(words.len().saturating_sub(lengths)).ok_or_else(odd)?;
    let number = |word: Option<&&str>| word.and_then(|w| w.parse::<usize>().ok()).ok_or_else(odd);
    let total = number(numbers.last())?;
    let headed = if headers { number(numbers.first())? } else { 0 };
    if names.len() < 1 + fixed || names.len() > 2 + fixed || headed > total {
        return Err(odd());
    }
    let start = bytes.len();
    bytes.resize(start + total + 2, 0);
    from.read_exact(&mut bytes[start..])?;
    let reply = names.get(1 + fixed).map(|word| (*word).to_owned());
    let subject = names[1].to_owned();
    let frame = if fixed == 1 {
        Frame::Publish { subject, reply }
    } else {
        let headers = bytes[start..start + headed].to_vec();
        let payload = bytes[start + headed..start + total].to_vec();
        Frame::Message(Message { subject, sid: names[2].to_owned(), reply, headers, payload })
    };
    Ok(Some((bytes, frame)))
}

/// Connects, reads the server's `INFO` and leaves.
///
/// # Errors
/// When nobody listens, or who does is no nats-server.
pub fn greeting(address: SocketAddr) -> io::Result<Value> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    info(&mut BufReader::new(stream))
}

fn info(from: &mut impl BufRead) -> io::Result<Value> {
    match read_frame(from)? {
        Some((_, Frame::Line(line))) if line.starts_with("INFO ") => Ok(serde_json::from_str(&line[5..])?),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no INFO: {other:?}"))),
    }
}

/// What carries the protocol.
#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Web(WebSocket),
}

impl Transport {
    fn socket(&self) -> &TcpStream {
        match self {
            Transport::Tcp(socket) => socket,
            Transport::Web(web) => web.socket(),
        }
    }
}

impl Read for Transport {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(socket) => socket.read(to),
            Transport::Web(web) => web.read(to),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(socket) => socket.write(bytes),
            Transport::Web(web) => web.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Transport>,
    info: Value,
    sids: u64,
    inbox: String,
}

impl Client {
    /// Connects without credentials; returns when the server has answered a PING.
    ///
    /// # Errors
    /// Of the connection; `PermissionDenied` with the server's words when it says `-ERR`.
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        Client::connect_with(address, |_| json!({}))
    }

    /// The same with more members for `CONNECT`, such as `jwt` and `sig`, made from the server's `INFO` (`nonce`).
    ///
    /// # Errors
    /// As [`connect`](Client::connect).
    pub fn connect_with(address: SocketAddr, members: impl FnOnce(&Value) -> Value) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Client::greet(Transport::Tcp(stream), members)
    }

    /// The same through the websocket that listens there.
    ///
    /// # Errors
    /// As [`connect`](Client::connect).
    pub fn connect_websocket(
        address: SocketAddr,
        members: impl FnOnce(&Value) -> Value,
    ) -> io::Result<Client> {
        Client::greet(Transport::Web(WebSocket::open(address)?), members)
    }

    fn greet(transport: Transport, members: impl FnOnce(&Value) -> Value) -> io::Result<Client> {
        let mut stream = BufReader::new(transport);
        let info = info(&mut stream)?;
        let mut connect = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1,
            "lang": "tests", "version": "0",
        });
        if let (Some(all), Value::Object(more)) = (connect.as_object_mut(), members(&info)) {
            all.extend(more);
        }
        let local = stream.get_ref().socket().local_addr()?.port();
        let mut client = Client { stream, info, sids: 0, inbox: format!("_INBOX.tests{local}") };
        client.send(format!("CONNECT {connect}\r\n").as_bytes())?;
        client.ping()?;
        Ok(client)
    }

    /// What the server said first.
    pub fn info(&self) -> &Value {
        &self.info
    }

    /// Inboxes of [`request`](Client::request) begin with this from now on, without the last dot.
    pub fn set_inbox_prefix(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.inbox);
    }

    /// What inboxes begin with.
    pub fn inbox_prefix(&self) -> &str {
        &self.inbox
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Waits until the server has worked off everything sent before.
    ///
    /// # Errors
    /// Of the connection; `PermissionDenied` with the server's words when it says `-ERR`.
    pub fn ping(&mut self) -> io::Result<()> {
        self.send(b"PING\r\n")?;
        loop {
            if let Frame::Line(line) = self.frame()? {
                match line.split_whitespace().next() {
                    Some("PONG") => return Ok(()),
                    Some("-ERR") => return Err(io::Error::new(io::ErrorKind::PermissionDenied, line)),
                    _ => {}
                }
            }
        }
    }

    /// Waits as [`ping`](Client::ping) does, and gives what came in the meantime: messages, and the server's `-ERR`
    /// lines. (What other parts of the server answer may still be on its way.)
    ///
    /// # Errors
    /// Of the connection.
    pub fn settle(&mut self) -> io::Result<(Vec<Message>, Vec<String>)> {
        self.send(b"PING\r\n")?;
        let (mut messages, mut errors) = (Vec::new(), Vec::new());
        loop {
            match self.frame()? {
                Frame::Message(message) => messages.push(message),
                Frame::Line(line) if line == "PONG" => return Ok((messages, errors)),
                Frame::Line(line) if line.starts_with("-ERR") => errors.push(line),
                _ => {}
            }
        }
    }

    /// Publishes. `headers` are written in the order given, doubled ones too.
    ///
    /// # Errors
    /// Of the connection.
    pub fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> io::Result<()> {
        let reply = reply.map(|reply| format!(" {reply}")).unwrap_or_default();
        let mut bytes = Vec::new();
        if headers.is_empty() {
            write!(bytes, "PUB {subject}{reply} {}\r\n", payload.len())?;
        } else {
            let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let head = format!("NATS/1.0\r\n{lines}\r\n");
            write!(bytes, "HPUB {subject}{reply} {} {}\r\n{head}", head.len(), head.len() + payload.len())?;
        }
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.send(&bytes)
    }

    /// Subscribes; gives the subscription's number.
    ///
    /// # Errors
    /// Of the connection.
    pub fn subscribe(&mut self, subject: &str) -> io::Result<String> {
        self.sids += 1;
        self.send(format!("SUB {subject} {}\r\n", self.sids).as_bytes())?;
        Ok(self.sids.to_string())
    }

    /// The next message of any subscription. PINGs are answered in between.
    ///
    /// # Errors
    /// `TimedOut` or `WouldBlock` after `patience`; `PermissionDenied` when the server says `-ERR`; else of the
    /// connection.
    pub fn next(&mut self, patience: Duration) -> io::Result<Message> {
        self.stream.get_ref().socket().set_read_timeout(Some(patience))?;
        let outcome = loop {
            match self.frame() {
                Ok(Frame::Message(message)) => break Ok(message),
                Ok(Frame::Line(line)) if line.starts_with("-ERR") => {
                    break Err(io::Error::new(io::ErrorKind::PermissionDenied, line));
                }
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        self.stream.get_ref().socket().set_read_timeout(Some(PATIENCE))?;
        outcome
    }

    /// Publishes with an inbox of its own and gives the first answer, a 503 included.
    ///
    /// # Errors
    /// As [`next`](Client::next).
    pub fn request(
        &mut self,
        subject: &str,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> io::Result<Message> {
        let inbox = format!("{}.{}", self.inbox, self.sids + 1);
        let sid = self.subscribe(&inbox)?;
        self.publish(subject, Some(&inbox), headers, payload)?;
        let answer = loop {
            let message = self.next(PATIENCE)?;
            if message.sid == sid {
                break message;
            }
        };
        self.send(format!("UNSUB {sid}\r\n").as_bytes())?;
        Ok(answer)
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let (_, frame) = read_frame(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if frame == Frame::Line("PING".to_owned()) {
            self.send(b"PONG\r\n")?;
        }
        Ok(frame)
    }
}

/// The body of an HTTP answer with status 200.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, answer)),
    }
}
