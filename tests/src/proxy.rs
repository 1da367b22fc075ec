//! A TCP proxy between client and server that reads the NATS protocol, so that it can lose exactly what a test names.
//!
//! Each connection has four threads: in each direction one reads frames and decides, one writes them when their time
//! has come. Plain TCP only (no TLS, no websocket).

use std::collections::BTreeSet;
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::wait;
use crate::wire::{Frame, read_frame};

/// Where a publish is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server sees nothing of it.
    Before,
    /// The server sees a part of the frame.
    Inside,
    /// The server sees it whole; the client sees no answer.
    After,
}

/// What a fault does to the publishes that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    EatAnswer,
    SlowAnswer(Duration),
    Cut(Cut),
    Hold,
}

type Matcher = Box<dyn Fn(&str) -> bool + Send>;

struct Armed {
    deed: Deed,
    /// Publishes still to be hit.
    left: usize,
    matches: Matcher,
    met: Arc<AtomicUsize>,
    count: Arc<AtomicUsize>,
    /// Answers that shall not reach the client, by their inbox.
    inboxes: BTreeSet<String>,
    /// What is held back goes on.
    free: Arc<AtomicBool>,
}

/// What a publish meets.
enum Met {
    /// A cut, and who counts it.
    Cut(Cut, Arc<AtomicUsize>),
    /// Somebody who holds it back until this says that it may go on.
    Hold(Arc<AtomicBool>),
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    closed: Arc<AtomicBool>,
}

impl Connection {
    fn cut(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

#[derive(Default)]
struct State {
    faults: Vec<Armed>,
    connections: Vec<Connection>,
    delay: Duration,
    refusing: bool,
    ended: bool,
}

struct Shared {
    state: Mutex<State>,
    target: Mutex<SocketAddr>,
    accepted: AtomicUsize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy in front of one server. Dropping it cuts everything and stops listening.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free loopback port and passes everything on to `target`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free loopback port");
        let address = listener.local_addr().expect("the address of a listener");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            target: Mutex::new(target),
            accepted: AtomicUsize::new(0),
        });
        let passed = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if passed.state().ended {
                    return;
                }
                passed.accepted.fetch_add(1, Ordering::SeqCst);
                accept(&passed, client);
            }
        });
        Proxy { address, shared }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Connections from now on go to another server.
    pub fn retarget(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Keeps the answers to the next `count` publishes whose subject matches and that ask for an answer: the server
    /// has worked them off, the client never hears of it. (Of an atomic batch only the last message asks.)
    pub fn eat_answers(&self, count: usize, matches: impl Fn(&str) -> bool + Send + 'static) -> Fault {
        self.arm(Deed::EatAnswer, count, Box::new(matches))
    }

    /// Answers to the next `count` publishes whose subject matches come this much later, and what stands behind them in
    /// the connection with them.
    pub fn slow_answers(
        &self,
        by: Duration,
        count: usize,
        matches: impl Fn(&str) -> bool + Send + 'static,
    ) -> Fault {
        self.arm(Deed::SlowAnswer(by), count, Box::new(matches))
    }

    /// Cuts the connection at each of the next `count` publishes whose subject matches.
    pub fn cut(&self, place: Cut, count: usize, matches: impl Fn(&str) -> bool + Send + 'static) -> Fault {
        self.arm(Deed::Cut(place), count, Box::new(matches))
    }

    /// Holds the next `count` publishes whose subject matches back, and with each everything that its client says behind it,
    /// until the fault [lets it go](Fault::let_go).
    pub fn hold(&self, count: usize, matches: impl Fn(&str) -> bool + Send + 'static) -> Fault {
        self.arm(Deed::Hold, count, Box::new(matches))
    }

    /// Everything read from now on arrives this much later, each way. The order is kept, the rate is not limited.
    pub fn delay(&self, each_way: Duration) {
        self.shared.state().delay = each_way;
    }

    /// Cuts all connections now. New ones are welcome.
    pub fn cut_all(&self) {
        for connection in self.shared.state().connections.drain(..) {
            connection.cut();
        }
    }

    /// Whether new connections are closed at once, before a word is said. Existing ones stay: see
    /// [`cut_all`](Proxy::cut_all).
    pub fn refuse(&self, refusing: bool) {
        self.shared.state().refusing = refusing;
    }

    /// How many connections came so far, refused ones included.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.state().connections.iter().filter(|c| !c.closed.load(Ordering::SeqCst)).count()
    }

    fn arm(&self, deed: Deed, count: usize, matches: Matcher) -> Fault {
        let (met, hits) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let free = Arc::new(AtomicBool::new(false));
        let armed = Armed {
            deed,
            left: count,
            matches,
            met: Arc::clone(&met),
            count: Arc::clone(&hits),
            inboxes: BTreeSet::new(),
            free: Arc::clone(&free),
        };
        self.shared.state().faults.push(armed);
        Fault { met, hits, free, shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.cut_all();
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// A fault that was ordered. Dropping it leaves it in force.
pub struct Fault {
    met: Arc<AtomicUsize>,
    hits: Arc<AtomicUsize>,
    free: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Fault {
    /// How many times it has happened: answers eaten, connections cut.
    pub fn happened(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// How many publishes it has met so far. No answer to them can arrive any more: it is eaten when it comes, or the
    /// connection ends before.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }

    /// Waits until it has happened `count` times in all.
    ///
    /// # Panics
    /// When that does not come.
    pub fn wait(&self, count: usize) {
        wait::until(&format!("a fault of the proxy happens {count} times"), || {
            (self.happened() >= count).then_some(())
        });
    }

    /// Lets everything that it holds back go on, now and later.
    pub fn let_go(&self) {
        self.free.store(true, Ordering::SeqCst);
    }

    /// Takes it back, as far as it has not happened.
    pub fn disarm(self) {
        self.shared.state().faults.retain(|armed| !Arc::ptr_eq(&armed.count, &self.hits));
    }
}

/// What a writing thread is told.
enum Order {
    /// Write this when its time has come.
    Write(Instant, Vec<u8>),
    /// Part client and server: the server still gets what was written, the client gets nothing more.
    Part(Instant, Vec<u8>, Arc<AtomicUsize>),
}

fn accept(shared: &Arc<Shared>, client: TcpStream) {
    let mut state = shared.state();
    if state.refusing {
        return;
    }
    let target = *shared.target.lock().unwrap_or_else(PoisonError::into_inner);
    // No server there: the client sees its connection closed, as it would without the proxy.
    let Ok(server) = TcpStream::connect(target) else { return };
    let twins = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some(kept), Some(up), Some(down)) = (twins(), twins(), twins()) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let closed = Arc::new(AtomicBool::new(false));
    state.connections.retain(|connection| !connection.closed.load(Ordering::SeqCst));
    state.connections.push(Connection { client: kept.0, server: kept.1, closed: Arc::clone(&closed) });
    drop(state);

    let (to_server, orders) = channel();
    thread::spawn(move || write_orders(&orders, &up.1, &up.0));
    let (to_client, orders) = channel();
    thread::spawn(move || write_orders(&orders, &down.0, &down.1));

    let here = Arc::clone(shared);
    thread::spawn(move || read_client(&here, client, &to_server));
    let here = Arc::clone(shared);
    thread::spawn(move || {
        read_server(&here, server, &to_client);
        closed.store(true, Ordering::SeqCst);
    });
}

/// Client to server: publishes may meet a fault.
fn read_client(shared: &Shared, client: TcpStream, to_server: &Sender<Order>) {
    let mut from = BufReader::new(client);
    while let Ok(Some((mut bytes, frame))) = read_frame(&mut from) {
        let mut state = shared.state();
        let due = Instant::now() + state.delay;
        let met = publish_fault(&mut state, &frame);
        drop(state);
        let order = match met {
            None => Order::Write(due, bytes),
            Some(Met::Hold(free)) => {
                wait::until("a publish is let go", || free.load(Ordering::SeqCst).then_some(()));
                Order::Write(Instant::now(), bytes)
            }
            Some(Met::Cut(place, count)) => {
                match place {
                    Cut::Before => bytes.clear(),
                    Cut::Inside => bytes.truncate(bytes.len() / 2),
                    Cut::After => {}
                }
                Order::Part(due, bytes, count)
            }
        };
        let last = matches!(order, Order::Part(..));
        if to_server.send(order).is_err() || last {
            return;
        }
    }
}

/// What this frame meets, if anything; notes the inbox whose answer shall be eaten.
fn publish_fault(state: &mut State, frame: &Frame) -> Option<Met> {
    let Frame::Publish { subject, reply } = frame else { return None };
    for armed in state.faults.iter_mut().filter(|armed| armed.left > 0) {
        let inbox = reply.clone();
        let is_answer = matches!(armed.deed, Deed::EatAnswer | Deed::SlowAnswer(_));
        if (is_answer && inbox.is_none()) || !(armed.matches)(subject) {
            continue;
        }
        armed.left -= 1;
        armed.met.fetch_add(1, Ordering::SeqCst);
        match armed.deed {
            Deed::EatAnswer | Deed::SlowAnswer(_) => armed.inboxes.extend(inbox),
            Deed::Cut(place) => return Some(Met::Cut(place, Arc::clone(&armed.count))),
            Deed::Hold => return Some(Met::Hold(Arc::clone(&armed.free))),
        }
        return None;
    }
    None
}

/// Server to client: answers may be eaten. Reads to the end even when the client is gone, so that the server is never
/// disturbed while it works off what it was sent.
fn read_server(shared: &Shared, server: TcpStream, to_client: &Sender<Order>) {
    let mut from = BufReader::new(server);
    while let Ok(Some((bytes, frame))) = read_frame(&mut from) {
        let mut state = shared.state();
        if let Frame::Message(message) = &frame {
            let found = state.faults.iter_mut().find_map(|armed| {
                armed.inboxes.remove(&message.subject).then(|| (armed.deed, Arc::clone(&armed.count)))
            });
            match found {
                Some((Deed::SlowAnswer(by), count)) => {
                    count.fetch_add(1, Ordering::SeqCst);
                    let due = Instant::now() + state.delay + by;
                    drop(state);
                    let _ = to_client.send(Order::Write(due, bytes));
                    continue;
                }
                Some((_, count)) => {
                    count.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                None => {}
            }
        }
        let due = Instant::now() + state.delay;
        drop(state);
        let _ = to_client.send(Order::Write(due, bytes));
    }
}

/// Writes to `to` in order, each piece when its time has come; closes that direction when there is no more.
fn write_orders(orders: &Receiver<Order>, mut to: &TcpStream, other: &TcpStream) {
    for order in orders {
        let (Order::Write(due, bytes) | Order::Part(due, bytes, _)) = &order;
        // The delay is the fault.
        wait::pass(due.saturating_duration_since(Instant::now()));
        if let Order::Part(..) = &order {
            // First the client's side, or the answer could still slip through.
            let _ = other.shutdown(Shutdown::Both);
        }
        let written = to.write_all(bytes);
        if let Order::Part(_, _, count) = &order {
            count.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if written.is_err() {
            // Whoever it comes from need not send more.
            let _ = other.shutdown(Shutdown::Read);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
