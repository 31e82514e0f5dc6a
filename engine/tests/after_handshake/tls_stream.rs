//! The stream over any I/O: in memory, through pipes as narrow as one byte.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use handfast::handshake::Session;
use handfast::rustls::client::UnbufferedClientConnection;
use handfast::rustls::server::UnbufferedServerConnection;
use handfast::rustls::{self, AlertDescription, ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use handfast::{Backlog, TlsStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use crate::harness::{Certificate, pattern};

type Server = TlsStream<DuplexStream, UnbufferedServerConnection>;
type Client = TlsStream<DuplexStream, UnbufferedClientConnection>;

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let certificate = Certificate::new();
    let provider = Arc::new(handfast::crypto::provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut server = server.with_single_cert(vec![certificate.der.clone()], certificate.private_key()).unwrap();
    server.alpn_protocols = vec![b"pipe".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"pipe".to_vec()];
    (Arc::new(server), Arc::new(client))
}

/// Both ends of a connection, and the server's tickets, which are still to be sent.
fn handshake() -> (Session, Session<UnbufferedClientConnection>, Vec<u8>) {
    let (server, client) = configs();
    let mut server = Session::server(server).unwrap();
    let mut client = Session::new(UnbufferedClientConnection::new(client, "localhost".try_into().unwrap()).unwrap());
    let (mut to_server, mut to_client, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    client.receive(&mut [], &mut plain, &mut to_server).unwrap();
    server.receive(&mut to_server, &mut plain, &mut to_client).unwrap();
    to_server.clear();
    client.receive(&mut to_client, &mut plain, &mut to_server).unwrap();
    to_client.clear();
    server.receive(&mut to_server, &mut plain, &mut to_client).unwrap();
    assert!(!server.common().is_handshaking() && !client.common().is_handshaking() && plain.is_empty());
    assert!(!to_client.is_empty(), "tickets");
    (server, client, to_client)
}

/// A connection through a pipe that holds `width` bytes each way.
fn pair(width: usize) -> (Server, Client) {
    let (server, client, unsent) = handshake();
    let (a, b) = duplex(width);
    let server = TlsStream::new(a, server, Backlog { unsent, ..Backlog::default() });
    (server, TlsStream::new(b, client, Backlog::default()))
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn large_transfers_go_both_ways_at_once_through_pipes_of_any_width() {
    async fn send_and_receive<C: handfast::handshake::Unbuffered + Send + 'static>(
        stream: TlsStream<DuplexStream, C>,
        len: usize,
    ) -> Vec<u8> {
        let (mut from, mut to) = tokio::io::split(stream);
        let writing = tokio::spawn(async move {
            to.write_all(&pattern(len)).await.unwrap();
            to.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        from.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap();
        received
    }
    for (width, len) in [(1, 20_000), (7, 100_000), (4096, 3 << 20), (1 << 20, 3 << 20)] {
        let (at_server, at_client) = run(async {
            let (server, client) = pair(width);
            tokio::join!(send_and_receive(server, len), send_and_receive(client, len + 1))
        });
        assert!(at_server == pattern(len + 1) && at_client == pattern(len), "width {width}");
    }
}

#[test]
fn what_was_negotiated_can_be_asked_at_both_ends() {
    let (server, client) = pair(64);
    assert_eq!((server.alpn_protocol(), client.alpn_protocol()), (Some(&b"pipe"[..]), Some(&b"pipe"[..])));
    assert_eq!((server.group(), server.cipher_suite()), (client.group(), client.cipher_suite()));
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!((client.peer_certificates().len(), server.peer_certificates().len()), (1, 0));
    assert!(!client.resumed());
}

#[test]
fn half_closed_connection_goes_on_the_other_way() {
    run(async {
        let (mut server, mut client) = pair(16);
        let asking = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(client.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answering = async {
            let mut question = Vec::new();
            server.read_to_end(&mut question).await.unwrap();
            assert_eq!(question, b"question");
            server.write_all(b"answer").await.unwrap();
            server.shutdown().await.unwrap();
        };
        assert_eq!(tokio::join!(asking, answering).0, b"answer");
    });
}

#[test]
fn end_without_close_notify_is_an_error_each_time() {
    run(async {
        let (server, mut client) = pair(1 << 16);
        drop(server);
        for _ in 0..2 {
            assert_eq!(client.read(&mut [0; 9]).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
    });
}

#[test]
fn broken_record_is_told_to_the_reader_and_to_the_peer() {
    run(async {
        let (mut server, mut client) = pair(1 << 16);
        client.write_all(b"well").await.unwrap();
        let (mut io, mut session, _) = client.into_parts();
        io.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).await.unwrap();
        let mut word = [0; 9];
        assert_eq!(server.read(&mut word).await.unwrap(), 4, "what came before the fault is good");
        for _ in 0..2 {
            let error = server.read(&mut word).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            let reason = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            assert_eq!(reason, Some(&rustls::Error::DecryptError));
        }
        assert_eq!(server.write(b"more").await.unwrap_err().kind(), ErrorKind::InvalidData);
        server.shutdown().await.unwrap();
        drop(server);
        let (mut records, mut plain) = (Vec::new(), Vec::new());
        io.read_to_end(&mut records).await.unwrap();
        let told = session.receive(&mut records, &mut plain, &mut Vec::new());
        assert_eq!(told, Err(rustls::Error::AlertReceived(AlertDescription::BadRecordMac)));
    });
}

#[test]
fn backlog_is_read_first_and_sent_by_one_who_only_reads() {
    let (server, mut client, unsent) = handshake();
    let (a, mut b) = duplex(7);
    let backlog = Backlog { received: b"early ".to_vec(), peer_closed: false, unsent: unsent.clone() };
    let mut server = TlsStream::new(a, server, backlog);
    let mut records = Vec::new();
    client.send(b"and late", &mut records).unwrap();
    client.close(&mut records).unwrap();
    let (mut received, mut tickets) = (Vec::new(), vec![0; unsent.len()]);
    run(async {
        let peer = async {
            b.read_exact(&mut tickets).await.unwrap();
            b.write_all(&records).await.unwrap();
        };
        tokio::join!(async { server.read_to_end(&mut received).await.unwrap() }, peer);
    });
    assert_eq!((&received[..], tickets), (&b"early and late"[..], unsent));
}

#[test]
fn peer_that_had_closed_before_leaves_what_it_sent() {
    let (server, _, _) = handshake();
    let (a, _b) = duplex(64);
    let backlog = Backlog { received: b"all there is".to_vec(), peer_closed: true, ..Backlog::default() };
    let mut server: Server = TlsStream::new(a, server, backlog);
    let mut all = Vec::new();
    run(server.read_to_end(&mut all)).unwrap();
    assert_eq!(all, b"all there is");
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn writes_wait_while_nobody_reads_and_a_reader_does_not_take_their_wake_up() {
    let (mut server, client) = pair(1024);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut writing = Context::from_waker(&waker);
    let (chunk, mut written) = (pattern(1 << 20), 0);
    while let Poll::Ready(n) = Pin::new(&mut server).poll_write(&mut writing, &chunk) {
        written += n.unwrap();
    }
    assert!((1..=64 << 10).contains(&written), "{written} bytes were taken");
    let mut word = [0; 9];
    let mut reading = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut server).poll_read(&mut reading, &mut ReadBuf::new(&mut word)).is_pending());
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    run(async { client.into_parts().0.read_exact(&mut [0; 100]).await.unwrap() });
    assert!(count.0.load(Ordering::Relaxed) > 0, "the writer was not woken");
}

#[test]
fn small_pieces_of_one_write_share_a_record() {
    run(async {
        let (server, mut client, mut tickets) = handshake();
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        client.receive(&mut tickets, &mut plain, &mut out).unwrap();
        let (a, mut b) = duplex(1 << 16);
        let mut server = TlsStream::new(a, server, Backlog::default());
        let pieces = [&b"GET "[..], b"", b"/", b" now"].map(IoSlice::new);
        assert_eq!(server.write_vectored(&pieces).await.unwrap(), 9);
        server.flush().await.unwrap();
        let mut record = vec![0; 5 + 9 + 1 + 16];
        b.read_exact(&mut record).await.unwrap();
        client.receive(&mut record, &mut plain, &mut out).unwrap();
        assert_eq!(plain, b"GET / now");
    });
}

/// Moves what `conn` has to say into `io`, then reads until it has `len` bytes of plaintext.
async fn ask(conn: &mut ClientConnection, io: &mut DuplexStream, question: &[u8], len: usize) -> Vec<u8> {
    conn.writer().write_all(question).unwrap();
    let mut records = Vec::new();
    while conn.wants_write() {
        conn.write_tls(&mut records).unwrap();
    }
    io.write_all(&records).await.unwrap();
    let mut answer = vec![0; len];
    let mut read = 0;
    while read < len {
        let n = io.read(&mut records).await.unwrap();
        conn.read_tls(&mut &records[..n]).unwrap();
        conn.process_new_packets().unwrap();
        read += conn.reader().read(&mut answer[read..]).unwrap_or(0);
    }
    answer
}

#[test]
fn new_keys_are_followed_and_answered() {
    let (server, client) = configs();
    let mut server = Session::server(server).unwrap();
    let mut conn = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    while conn.is_handshaking() {
        let mut records = Vec::new();
        conn.write_tls(&mut records).unwrap();
        server.receive(&mut records, &mut plain, &mut out).unwrap();
        conn.read_tls(&mut &out[..]).unwrap();
        out.clear();
        conn.process_new_packets().unwrap();
    }
    run(async {
        let (a, mut b) = duplex(512);
        let mut server = TlsStream::new(a, server, Backlog::default());
        let echoing = async {
            let mut word = [0; 4];
            while server.read_exact(&mut word).await.is_ok() {
                server.write_all(&word).await.unwrap();
            }
        };
        let asking = async {
            for word in [b"one ", b"two "] {
                // It asks us to do the same (RFC 8446 section 4.6.3).
                conn.refresh_traffic_keys().unwrap();
                for _ in 0..2 {
                    assert_eq!(ask(&mut conn, &mut b, word, 4).await, word);
                }
            }
            drop(b);
        };
        tokio::join!(echoing, asking);
    });
}
