//! No file descriptor left: connections are shed without spinning, and the listener survives. In a process of its own,
//! because the limit is the process's.

use std::net::TcpStream;

use handfast::handshake::{Blueprint, ProtocolTls, Sources};
use handfast::selection::Table;
use handfast::shard::{Destination, ShardConfig};
use handfast_tests::certificates::make;
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, TcpPeer, TcpWorld, World};

/// Takes descriptors until none is left.
fn exhaust() -> Vec<std::fs::File> {
    let mut held = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        held.push(file);
    }
    held
}

#[test]
fn without_descriptors_connections_are_shed_and_the_listener_survives() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: Some(256) }).expect("a lower limit");

    let made = make(&["localhost"]);
    let tls = ProtocolTls::new(*b"h2", made.set("default"));
    let table = Table::builder().protocol("h2").build().expect("a table");
    let blueprint = Blueprint::new(table, &[tls], &Sources::default()).expect("configurations");
    let mut world = TcpWorld::new(ShardConfig::new(blueprint.live(), vec![Destination::Close]));
    let config = Options::new(made.roots(), &["h2"]).config();

    // Connected and with their first flight on the way before the last descriptor is taken.
    let mut clients: Vec<Tls<TcpPeer>> = (0..3).map(|_| Tls::new(world.connect(), &config, "localhost")).collect();
    for client in &mut clients {
        let hello = client.outgoing();
        client.peer.send(&hello);
    }
    let held = exhaust();
    assert!(TcpStream::connect(("127.0.0.1", 1)).is_err(), "there was a descriptor left");
    world.until("all three are shed", |w| w.metrics().accepts_shed_no_descriptor == 3);
    for client in &mut clients {
        world.until("their peers learn of it", |_| client.peer.is_eof() || client.peer.is_reset());
    }
    // Nothing waits now: a loop that spins would take many turns in this time, one that sleeps takes few.
    let before = world.metrics().turns;
    world.pass(std::time::Duration::from_millis(300));
    let turns = world.metrics().turns - before;
    assert!(turns < 50, "{turns} turns in 300 ms with nothing to do");

    drop(held);
    let mut client = Tls::new(world.connect(), &config, "localhost");
    client.handshake(&mut world).expect("the listener still accepts");
    client.close();
    world.until_empty();
    assert_eq!(world.metrics().handshakes(), 1);
}
