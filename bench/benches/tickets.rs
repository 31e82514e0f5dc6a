//! Session tickets: ours, of which each has a key of its own, against rustls' rotated keys.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use handfast::crypto::{TicketOptions, TicketSecrets, Ticketer};
use handfast::handshake::Sources;
use handfast::rustls::crypto::aws_lc_rs;
use handfast::rustls::server::ProducesTickets;

/// About what a session of TLS 1.3 without a client certificate has.
const STATE_LEN: usize = 110;

fn compare(c: &mut Criterion) {
    let time = Sources::default().time;
    let secrets = TicketSecrets::new([[7; 32]]).expect("a secret");
    let ours = Ticketer::new(secrets, TicketOptions::default().lifetime, [0; 32], time);
    let theirs = aws_lc_rs::Ticketer::new().expect("randomness");
    for (name, ticketer) in [("handfast", Arc::new(ours) as Arc<dyn ProducesTickets>), ("rustls", theirs)] {
        let state = [7; STATE_LEN];
        let ticket = ticketer.encrypt(&state).expect("a ticket");
        assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(&state[..]));
        let mut group = c.benchmark_group("ticket");
        group.bench_function(format!("seal/{name}"), |b| b.iter(|| ticketer.encrypt(black_box(&state))));
        group.bench_function(format!("open/{name}"), |b| b.iter(|| ticketer.decrypt(black_box(&ticket))));
        group.finish();
    }
}

criterion_group!(benches, compare);
criterion_main!(benches);
