//! Negotiated connections in a tokio runtime.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use futures_util::StreamExt;
use handfast::interop::{Accepted, Incoming};
use handfast::peer::PeerAddr;
use handfast::transport::tcp::Endpoint;
use handfast::{Placement, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Server, TempFile, exchange, pattern, read_rest, runtime};

/// Echoes until the peer's close_notify, then closes, too.
async fn echo(mut stream: Accepted) -> String {
    let mut buf = vec![0; 4096];
    loop {
        match stream.read(&mut buf).await.unwrap() {
            0 => break,
            n => stream.write_all(&buf[..n]).await.unwrap(),
        }
    }
    stream.shutdown().await.unwrap();
    stream.facts().protocol_name()
}

#[test]
fn connections_of_several_protocols_arrive_and_the_end_of_the_engine_is_told() {
    let (mailbox, mut incoming) = Incoming::bounded(16);
    let protocols = ["one/1", "two/1"].map(|id| Protocol::alpn(id).hand_off(mailbox.clone()));
    drop(mailbox);
    let server = Server::start(Placement::SharedCore, protocols);
    let runtime = runtime();
    let ended = runtime.spawn(incoming.ended());
    let serving = runtime.spawn(async move {
        let mut tasks = Vec::new();
        while let Some(accepted) = incoming.accept().await {
            tasks.push(tokio::spawn(echo(accepted.unwrap())));
        }
        let mut served = Vec::new();
        for task in tasks {
            served.push(task.await.unwrap());
        }
        served
    });
    let mut connections: Vec<_> = ["one/1", "two/1", "one/1"].map(|id| server.connect(id)).into();
    let message = pattern(100_000);
    for connection in &mut connections {
        assert!(exchange(connection, &message) == message);
    }
    // They are the runtime's, and outlive the engine.
    assert_eq!(server.shutdown().handed_off, 3);
    assert!(!serving.is_finished());
    for connection in &mut connections {
        assert_eq!(exchange(connection, b"still there"), b"still there");
        connection.close().unwrap();
        assert_eq!(read_rest(connection), b"");
    }
    assert_eq!(runtime.block_on(serving).unwrap(), ["one/1", "two/1", "one/1"]);
    runtime.block_on(ended).unwrap();
}

#[test]
fn no_connection_is_left_lying_however_they_come() {
    let (mailbox, mut incoming) = Incoming::bounded(4);
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("own").hand_off(mailbox)]);
    let runtime = runtime();
    // One after the other, each taken only because its arrival woke the task.
    for _ in 0..50 {
        let taking = runtime.spawn(async move { (incoming.next().await.unwrap().unwrap(), incoming) });
        let mut c = server.connect("own");
        let (accepted, back) = runtime.block_on(taking).unwrap();
        incoming = back;
        drop(accepted);
        assert!(c.read(&mut [0; 9]).is_err(), "dropped without close_notify");
    }
    // Many at once, more than the mailbox holds.
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (client, addr) = (server.client("own"), server.addr());
            std::thread::spawn(move || {
                for _ in 0..25 {
                    let mut c = client.connect_to(addr, "localhost").unwrap();
                    assert_eq!(exchange(&mut c, b"hello"), b"hello");
                    c.close().unwrap();
                    assert_eq!(read_rest(&mut c), b"");
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for _ in 0..100 {
            tokio::spawn(echo(incoming.accept().await.unwrap().unwrap()));
        }
    });
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.shutdown();
}

#[test]
fn application_that_is_gone_resets_what_it_was_given() {
    let (mailbox, incoming) = Incoming::bounded(4);
    let runtime = runtime();
    let ended = incoming.ended();
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("own").hand_off(mailbox)]);
    drop(incoming);
    runtime.block_on(ended);
    assert!(server.connect("own").read(&mut [0; 9]).is_err());
    assert_eq!(server.shutdown().handed_off, 0);
}

#[test]
fn unix_domain_connections_arrive_as_well() {
    let (mailbox, mut incoming) = Incoming::bounded(4);
    // The name alone is wanted.
    let path = TempFile::new("").path().to_owned();
    let endpoint = Endpoint::Unix(path.clone());
    let listen = |builder: handfast::Builder| builder.listen(endpoint);
    let server = Server::start_with(Placement::SharedCore, [Protocol::alpn("own").hand_off(mailbox)], listen);
    let runtime = runtime();
    let asking = runtime.spawn({
        let client = server.client("own");
        async move {
            let socket = UnixStream::connect(path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let socket = tokio::net::UnixStream::from_std(socket).unwrap();
            let mut stream = client.handshake(socket, "localhost").await.unwrap();
            stream.write_all(b"over a path").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = String::new();
            stream.read_to_string(&mut back).await.unwrap();
            back
        }
    });
    runtime.block_on(async {
        let accepted = incoming.accept().await.unwrap().unwrap();
        assert_eq!(accepted.facts().peer, PeerAddr::Unix);
        echo(accepted).await;
    });
    assert_eq!(runtime.block_on(asking).unwrap(), "over a path");
    server.shutdown();
}

#[test]
fn what_came_before_the_hand_off_is_read_first() {
    let (mailbox, mut incoming) = Incoming::bounded(4);
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("own").hand_off(mailbox)]);
    let mut c = server.connect("own");
    c.write_all(b"first").unwrap();
    let runtime = runtime();
    let serving = runtime.spawn(async move { echo(incoming.accept().await.unwrap().unwrap()).await });
    assert_eq!(exchange(&mut c, b" and then"), b"first and");
    c.close().unwrap();
    assert_eq!(read_rest(&mut c), b" then");
    runtime.block_on(serving).unwrap();
    server.shutdown();
}
