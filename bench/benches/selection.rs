//! One lookup for each offered ALPN ID against a scan of the two lists, as most TLS libraries do it.
//!
//! The client offers as many IDs as are registered, the ones in common last: the case in which a scan is slowest; and
//! what a browser sends.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use handfast::handshake::hello::{ClientHelloView, HelloReader};
use handfast::selection::Table;

const NAMES: [&str; 16] = [
    "h2",
    "http/1.1",
    "h3",
    "acme-tls/1",
    "http/1.0",
    "mqtt",
    "dot",
    "xmpp-client",
    "xmpp-server",
    "imap",
    "pop3",
    "managesieve",
    "postgresql",
    "smb",
    "nats",
    "handfast-test",
];

/// A ClientHello in one record that offers these IDs.
fn hello(offers: &[String]) -> Vec<u8> {
    let vector = |contents: &[u8]| [&u16::try_from(contents.len()).unwrap().to_be_bytes(), contents].concat();
    let ids: Vec<u8> =
        offers.iter().flat_map(|id| [&[u8::try_from(id.len()).unwrap()], id.as_bytes()].concat()).collect();
    let extension = [&[0, 16][..], &vector(&vector(&ids))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &vector(&extension)].concat();
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}

fn scan(registered: &[Vec<u8>], hello: &ClientHelloView<'_>) -> Option<usize> {
    registered.iter().position(|ours| hello.alpn_protocols().any(|offered| offered == ours))
}

fn compare(c: &mut Criterion, group: &str, count: usize, offers: &[String]) {
    let registered: Vec<Vec<u8>> = NAMES[..count].iter().map(|name| name.as_bytes().to_vec()).collect();
    let table =
        registered.iter().fold(Table::builder(), |builder, id| builder.protocol(id.clone())).build().expect("valid");
    let input = hello(offers);
    let hello = HelloReader::new().read(&input, 1 << 14).expect("well-formed").expect("whole");
    let view = hello.view(&input, None);
    assert_eq!(table.select(&view).ok().map(|decision| decision.protocol.into()), scan(&registered, &view));
    let mut group = c.benchmark_group(group);
    group.bench_function(BenchmarkId::new("table", count), |b| b.iter(|| table.select(black_box(&view))));
    group
        .bench_function(BenchmarkId::new("scan", count), |b| b.iter(|| scan(black_box(&registered), black_box(&view))));
    group.finish();
}

fn selection(c: &mut Criterion) {
    for count in [2, 8, 16] {
        let mut offers: Vec<String> = (1..count).map(|n| format!("unknown/{n}")).collect();
        offers.push(NAMES[count - 1].to_owned());
        compare(c, "last_of_both", count, &offers);
        compare(c, "browser", count, &["h2".to_owned(), "http/1.1".to_owned()]);
    }
}

criterion_group!(benches, selection);
criterion_main!(benches);
