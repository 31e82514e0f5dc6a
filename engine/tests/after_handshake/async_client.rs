//! The asynchronous client: in a runtime, and over I/O of any kind.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast::client::{Client, ClientError, ClientStream, Phase, Roots};
use handfast::crypto::batch::{Batch, Unavailable};
use handfast::crypto::{Crypto, provider_with};
use handfast::handshake::TlsVersions;
use handfast::rustls::{CertificateError, KeyLog, NamedGroup, ProtocolVersion};
use handfast::{Placement, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, TempFile, runtime};

fn server() -> Server {
    Server::start(Placement::SharedCore, [Protocol::alpn("bench").close()])
}

/// Closes, and waits for the server's close_notify: by then tickets have come.
async fn close(mut stream: ClientStream<TcpStream>) {
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
}

#[test]
fn what_was_negotiated_can_be_asked_for() {
    let server = server();
    let client = server.trusting().alpn(["other", "bench"]).build().unwrap();
    runtime().block_on(async {
        let target = format!("localhost:{}", server.addr().port());
        let c = client.connect_async(&target).await.unwrap();
        assert_eq!(c.alpn_protocol(), Some(&b"bench"[..]));
        assert_eq!(c.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(c.group(), Some(NamedGroup::X25519MLKEM768));
        assert!(c.cipher_suite().is_some() && !c.resumed());
        assert_eq!(c.peer_certificates(), std::slice::from_ref(&server.certificate.der));
        assert_eq!(c.io().peer_addr().unwrap(), server.addr());
        drop(c);
        close(client.connect_with_name_async(&target, "127.0.0.1").await.unwrap()).await;
    });
}

#[test]
fn sessions_are_shared_by_blocking_and_asynchronous_connections() {
    for versions in [TlsVersions::Tls13, TlsVersions::Tls12] {
        let server = server();
        let client = server.trusting().alpn(["bench"]).versions(versions).build().unwrap();
        let runtime = runtime();
        for resumed in [false, true, true] {
            let c = runtime.block_on(client.connect_to_async(server.addr(), "localhost")).unwrap();
            assert_eq!(c.resumed(), resumed);
            runtime.block_on(close(c));
        }
        assert!(client.connect_to(server.addr(), "localhost").unwrap().resumed());
        let fresh = server.trusting().alpn(["bench"]).versions(versions).resumption(false).build().unwrap();
        for _ in 0..2 {
            let c = runtime.block_on(fresh.connect_to_async(server.addr(), "localhost")).unwrap();
            assert!(!c.resumed());
            runtime.block_on(close(c));
        }
    }
}

/// Clients that compute in batches, over each group that can, on a CPU that can.
fn batched(server: &Server) -> Vec<(NamedGroup, Client)> {
    if let Err(why) = Batch::detect() {
        let is_able = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpu| cpu.contains(" avx512ifma"));
        assert!(!is_able && why == Unavailable::NoIfma, "{why}");
        eprintln!("skipped: clients that compute in batches: {why}");
        return Vec::new();
    }
    let of = |group| {
        let provider = provider_with(|g| g == group || g == NamedGroup::X25519, |_| true);
        let client = server.trusting().alpn(["bench"]).provider(provider).resumption(false);
        (group, client.crypto(Crypto::Batch).build().unwrap())
    };
    [NamedGroup::X25519, NamedGroup::X25519MLKEM768].map(of).into()
}

#[test]
fn tasks_of_one_thread_have_their_keys_from_its_pool() {
    let server = server();
    for (group, client) in batched(&server) {
        // Whoever asks for the thread's pool sees what the client does with it.
        let keys = Batch::detect().unwrap().client_keys().unwrap().unwrap();
        let addr = server.addr();
        let one_thread = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        one_thread.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let client = client.clone();
                tasks.spawn(async move {
                    let connected = client.connect_to_async(addr, "localhost").await.unwrap();
                    assert_eq!(connected.group(), Some(group));
                    close(connected).await;
                });
            }
            assert_eq!(tasks.join_all().await.len(), 20);
        });
        let counted = keys.counters();
        assert_eq!((counted.lanes, counted.misses), (20, 0), "{counted:?}");
        // Alone with its server, and nobody to wait for.
        let mut connected = client.connect_to(addr, "localhost").unwrap();
        assert_eq!(connected.group(), Some(group));
        connected.close().unwrap();
        let counted = keys.counters();
        assert_eq!((counted.lanes, counted.misses), (21, 1), "{counted:?}");
    }
}

#[test]
fn tasks_that_move_between_threads_with_pools_finish_all_the_same() {
    let server = server();
    for (group, client) in batched(&server) {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
        threads.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..60 {
                let (client, addr) = (client.clone(), server.addr());
                tasks.spawn(async move {
                    let connected = client.connect_to_async(addr, "localhost").await.unwrap();
                    assert_eq!(connected.group(), Some(group));
                    close(connected).await;
                });
            }
            assert_eq!(tasks.join_all().await.len(), 60);
        });
    }
}

#[test]
fn a_handshake_needs_no_runtime_and_goes_through_a_pipe_of_three_bytes() {
    let server = server();
    let client = server.client("bench");
    let (near, mut far) = tokio::io::duplex(3);
    let runtime = runtime();
    let addr = server.addr();
    runtime.spawn(async move {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        tokio::io::copy_bidirectional(&mut far, &mut socket).await
    });
    let mut stream = block_on(client.handshake(near, "localhost")).unwrap();
    assert_eq!(stream.alpn_protocol(), Some(&b"bench"[..]));
    block_on(stream.shutdown()).unwrap();
    assert_eq!(block_on(stream.read(&mut [0; 9])).unwrap(), 0);
}

/// An executor that knows no I/O and no time.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn untrusted_server_is_refused_and_told_why() {
    let server = server();
    let client = Client::builder().alpn(["bench"]).build().unwrap();
    let error = runtime().block_on(client.connect_to_async(server.addr(), "localhost")).unwrap_err();
    assert!(matches!(error, ClientError::NotTrusted { reason: CertificateError::UnknownIssuer, .. }), "{error:?}");
    let metrics = server.shutdown();
    assert_eq!(metrics.handshakes_full, 0, "{metrics}");
}

#[test]
fn servers_that_refuse_close_or_stall_are_told_apart() {
    let runtime = runtime();
    let connect = |addr: SocketAddr, limit| {
        let builder = Client::builder().roots(Roots::insecure_none()).handshake_timeout(limit);
        runtime.block_on(builder.build().unwrap().connect_to_async(addr, "localhost")).unwrap_err()
    };
    let long = Duration::from_secs(20);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let error = connect(addr, Duration::from_millis(50));
    assert!(matches!(error, ClientError::TimedOut { phase: Phase::Handshake, .. }), "{error:?}");
    let closing = std::thread::spawn(move || {
        drop(listener.accept().unwrap());
        let (mut socket, _) = listener.accept().unwrap();
        let mut hello = [0; 4096];
        while std::io::Read::read(&mut socket, &mut hello).unwrap() == hello.len() {}
    });
    let error = connect(addr, long);
    assert!(matches!(error, ClientError::Closed { .. }), "{error:?}");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    closing.join().unwrap();
    let error = connect(addr, long);
    assert!(matches!(error, ClientError::Refused { addr: at } if at == addr), "{error:?}");
    let client = Client::builder().build().unwrap();
    let error = runtime.block_on(client.connect_async("host.invalid:1")).unwrap_err();
    assert!(matches!(error, ClientError::UnknownHost { .. }), "{error:?}");
    let error = runtime.block_on(client.handshake(tokio::io::empty(), "localhost")).unwrap_err();
    assert!(matches!(error, ClientError::Closed { addr: None }), "{error:?}");
    assert!(error.to_string().starts_with("the server "), "{error}");
}

#[test]
fn secrets_of_connections_are_appended_to_the_key_log() {
    let server = server();
    let file = TempFile::new("# mine\n");
    let runtime = runtime();
    for versions in [TlsVersions::Tls13, TlsVersions::Tls12] {
        let builder = server.trusting().alpn(["bench"]).versions(versions);
        let client = builder.key_log_file(file.path()).build().unwrap();
        runtime.block_on(async { close(client.connect_to_async(server.addr(), "localhost").await.unwrap()).await });
    }
    let log = std::fs::read_to_string(file.path()).unwrap();
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some("# mine"));
    let mut labels = Vec::new();
    for line in lines {
        // As NSS has it: label, client random and secret in hexadecimal, between single spaces.
        let fields: Vec<_> = line.split(' ').collect();
        let [label, random, secret] = fields[..] else { panic!("{line}") };
        assert!(random.len() == 64 && [64, 96].contains(&secret.len()), "{line}");
        assert!(random.chars().chain(secret.chars()).all(|c| "0123456789abcdef".contains(c)), "{line}");
        labels.push(label);
    }
    labels.sort_unstable();
    let wanted = [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_RANDOM",
        "CLIENT_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
    ];
    assert_eq!(labels, wanted);
    let nowhere = Client::builder().key_log_file("/nowhere/keys").build();
    assert!(matches!(nowhere, Err(ClientError::KeyLog { kind: std::io::ErrorKind::NotFound, .. })), "{nowhere:?}");
}

#[test]
fn secrets_go_to_a_key_log_of_ones_own() {
    #[derive(Debug, Default)]
    struct Labels(Mutex<Vec<String>>);
    impl KeyLog for Labels {
        fn log(&self, label: &str, _: &[u8], _: &[u8]) {
            self.0.lock().unwrap().push(label.to_owned());
        }
    }
    let server = server();
    let labels = Arc::new(Labels::default());
    let builder = server.trusting().alpn(["bench"]).versions(TlsVersions::Tls12);
    let client = builder.key_log(Arc::clone(&labels) as Arc<dyn KeyLog>).build().unwrap();
    drop(runtime().block_on(client.connect_to_async(server.addr(), "localhost")).unwrap());
    assert_eq!(*labels.0.lock().unwrap(), ["CLIENT_RANDOM"]);
}
