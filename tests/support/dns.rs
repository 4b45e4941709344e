//! A DNS server on UDP that answers what it is told to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The records of a name of one type, and how many seconds they are good for.
type Zone = HashMap<(Name, RecordType), (u32, Vec<RData>)>;

#[derive(Debug, Default)]
struct Shared {
    zone: Mutex<Zone>,
    /// Every question is answered SERVFAIL.
    failing: Mutex<bool>,
    asked: Mutex<usize>,
}

/// See the module's documentation. Stops when dropped.
pub(crate) struct Dns {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl Dns {
    /// One that knows nothing.
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        task.spawn(serve(socket, Arc::clone(&shared)));
        Self {
            addr,
            shared,
            _task: task,
        }
    }

    /// Its address, for the configuration.
    pub(crate) fn server(&self) -> String {
        self.addr.to_string()
    }

    /// From now on `name` has these addresses.
    pub(crate) fn addresses(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        let (v4, v6): (Vec<IpAddr>, _) = addresses.iter().partition(|ip| ip.is_ipv4());
        for (kind, ips) in [(RecordType::A, v4), (RecordType::AAAA, v6)] {
            self.set(name, kind, ttl, ips.into_iter().map(RData::from).collect());
        }
    }

    /// From now on `name` has these services: priority, weight, target and port.
    pub(crate) fn services(&self, name: &str, ttl: u32, services: &[(u16, u16, &str, u16)]) {
        let records = services.iter().map(|(priority, weight, target, port)| {
            let target = Name::from_ascii(target).unwrap();
            RData::SRV(SRV::new(*priority, *weight, *port, target))
        });
        self.set(name, RecordType::SRV, ttl, records.collect());
    }

    fn set(&self, name: &str, kind: RecordType, ttl: u32, data: Vec<RData>) {
        let name = Name::from_ascii(name).unwrap();
        self.shared.zone.lock().insert((name, kind), (ttl, data));
    }

    /// Whether every question fails.
    pub(crate) fn fails(&self, failing: bool) {
        *self.shared.failing.lock() = failing;
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> usize {
        *self.shared.asked.lock()
    }
}

async fn serve(socket: UdpSocket, shared: Arc<Shared>) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let answer = shared.answer(&question).to_vec().unwrap();
        socket.send_to(&answer, from).await.unwrap();
    }
}

impl Shared {
    fn answer(&self, question: &Message) -> Message {
        *self.asked.lock() += 1;
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        for query in &question.queries {
            answer.add_query(query.clone());
            let key = (query.name().clone(), query.query_type());
            match self.zone.lock().get(&key) {
                _ if *self.failing.lock() => answer.metadata.response_code = ResponseCode::ServFail,
                None => answer.metadata.response_code = ResponseCode::NXDomain,
                Some((ttl, data)) => {
                    let record =
                        |data: &RData| Record::from_rdata(query.name().clone(), *ttl, data.clone());
                    answer.add_answers(data.iter().map(record));
                }
            }
        }
        answer
    }
}
