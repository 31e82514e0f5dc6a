//! Our client's HTTP, its certificate and its key log, at nginx and `openssl s_server`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use handfast::client::http::HttpConnection;
use handfast::client::{ClientError, ClientStream};
use handfast::handshake::TlsVersions;
use handfast::rustls::{self, AlertDescription};
use handfast_tests::process::Scratch;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::{Request, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{text, until};
use crate::servers::{ASKING, get, nginx, s_server};

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Status and content of `GET /`.
async fn get_by_hyper(http: &HttpConnection) -> (u16, Bytes) {
    let response = http.send(Request::get("/").body(Empty::<Bytes>::new()).expect("a request")).await;
    let response = response.expect("a response");
    (response.status().as_u16(), response.into_body().collect().await.expect("content").to_bytes())
}

#[test]
fn requests_go_to_nginx_over_both_versions_of_http() {
    let Some(nginx) = nginx() else { return };
    run(async {
        for (alpn, version, protocol) in
            [(&["h2", "http/1.1"][..], Version::HTTP_2, "HTTP/2.0"), (&["http/1.1"], Version::HTTP_11, "HTTP/1.1")]
        {
            let client = nginx.tls.trusting().alpn(alpn.iter().copied()).build().expect("a client");
            let http = client.http(&format!("localhost:{}", nginx.tls.addr.port())).await.expect("a connection");
            let http = Arc::new(http);
            assert_eq!(http.version(), version);
            let mut tasks = tokio::task::JoinSet::new();
            for i in 0..50 {
                let http = Arc::clone(&http);
                tasks.spawn(async move {
                    let content = Full::new(Bytes::from(vec![b'x'; i * 2000]));
                    let response = http.send(Request::post("/").body(content).expect("a request")).await;
                    let content = response.expect("a response").into_body().collect().await.expect("content");
                    assert_eq!(content.to_bytes(), format!("{protocol} TLSv1.3\n"));
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.expect("an answer");
            }
            Arc::into_inner(http).expect("the last one").close().await.expect("a good end");
        }
    });
}

#[test]
fn nginx_is_shown_our_certificate_also_in_a_resumed_session() {
    let Some(nginx) = nginx() else { return };
    for versions in [TlsVersions::Tls13, TlsVersions::Tls12] {
        let builder = nginx.tls.trusting().versions(versions);
        let stranger = builder.clone().build().expect("a client");
        let client = builder.identity(nginx.tls.files.made.identity()).build().expect("a client");
        run(async {
            let http = stranger.http_to(nginx.tls.addr, ASKING).await.expect("a connection");
            assert_eq!(get_by_hyper(&http).await.0, 400, "nginx says that no certificate was sent");
            for said in ["SUCCESS .", "SUCCESS r"] {
                let http = client.http_to(nginx.tls.addr, ASKING).await.expect("a connection");
                assert_eq!(get_by_hyper(&http).await, (200, Bytes::from(said)));
                http.close().await.expect("a good end");
            }
        });
    }
}

#[test]
fn s_server_is_shown_our_certificate_by_either_kind_of_connection() {
    let scratch = Scratch::new();
    let made = handfast_tests::certificates::make(&["client.example"]);
    let ca = scratch.file("client.pem", &made.pem);
    let Some(server) = s_server(&["-www", "-Verify", "1", "-verify_return_error", "-CAfile", text(&ca)]) else {
        return;
    };
    for versions in [TlsVersions::Tls13, TlsVersions::Tls12] {
        let client = server.trusting().versions(versions).identity(made.identity()).build().expect("a client");
        let answer = get(&mut client.connect_to(server.addr, "localhost").expect("a connection"));
        // It prints the certificate that it was shown.
        assert!(answer.contains("client.example"), "{answer}");
        let answer = run(async {
            let mut stream = client.connect_to_async(server.addr, "localhost").await.expect("a connection");
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("sent");
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        });
        assert!(answer.contains("HTTP/1.0 200 ok"), "{answer}");
    }
    // TLS 1.3 tells a client only after its handshake that it had to show one (RFC 8446 section 4.4.2.4).
    let stranger = server.trusting().versions(TlsVersions::Tls13).build().expect("a client");
    let refused = |result: std::io::Result<usize>| {
        let error = result.expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        let reason = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        assert_eq!(reason, Some(&rustls::Error::AlertReceived(AlertDescription::CertificateRequired)));
    };
    let mut connection = stranger.connect_to(server.addr, "localhost").expect("half a handshake");
    connection.flush().expect("sent");
    refused(connection.read(&mut [0; 9]));
    run(async {
        let mut stream: ClientStream<TcpStream> =
            stranger.connect_to_async(server.addr, "localhost").await.expect("half a handshake");
        refused(stream.read(&mut [0; 9]).await);
    });
    let stranger = server.trusting().versions(TlsVersions::Tls12).build().expect("a client");
    let error = run(stranger.connect_to_async(server.addr, "localhost")).expect_err("a refusal");
    assert!(matches!(error, ClientError::Incompatible { .. }), "{error}");
}

#[test]
fn our_key_log_says_what_openssl_logs() {
    let scratch = Scratch::new();
    let (ours, theirs) = (scratch.path("ours"), scratch.path("theirs"));
    let Some(server) = s_server(&["-www", "-keylogfile", text(&theirs)]) else { return };
    for versions in [TlsVersions::Tls13, TlsVersions::Tls12] {
        let client = server.trusting().versions(versions).key_log_file(&ours).build().expect("a client");
        get(&mut client.connect_to(server.addr, "localhost").expect("a connection"));
        run(async { client.connect_to_async(server.addr, "localhost").await.map(drop) }).expect("a connection");
    }
    let secrets = |path| -> BTreeSet<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_lowercase).collect()
    };
    until("the same secrets at both ends", || secrets(&ours) == secrets(&theirs));
    assert!(secrets(&ours).len() >= 6, "{:?}", secrets(&ours));
}
