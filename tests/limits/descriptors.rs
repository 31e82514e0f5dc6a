//! No file descriptor left: connections are shed without spinning, and the listener survives. In a process of its own,
//! because the limit is the process's.

use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use handfast::handshake::{Blueprint, ProtocolTls, Sources};
use handfast::rustls::ClientConfig;
use handfast::selection::Table;
use handfast::shard::{Destination, ShardConfig};
use handfast_tests::certificates::make;
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, TcpPeer, TcpWorld, World};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes descriptors until none is left.
fn exhaust() -> Vec<std::fs::File> {
    let mut held = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        held.push(file);
    }
    held
}

/// The limit is the process's, so the tests take turns.
static ALONE: Mutex<()> = Mutex::new(());

/// Sets the limit of descriptors; what it was.
fn limit(descriptors: u64) -> u64 {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), ..before }).expect("another limit");
    before.current.expect("a limit")
}

/// A world, and the configuration of its clients.
fn world() -> (TcpWorld, Arc<ClientConfig>) {
    let made = make(&["localhost"]);
    let tls = ProtocolTls::new(*b"h2", made.set("default"));
    let table = Table::builder().protocol("h2").build().expect("a table");
    let blueprint = Blueprint::new(table, &[tls], &Sources::default()).expect("configurations");
    let world = TcpWorld::new(ShardConfig::new(blueprint.live(), vec![Destination::Close]));
    (world, Options::new(made.roots(), &["h2"]).config())
}

/// A client whose first flight is on the way.
fn client(world: &mut TcpWorld, config: &Arc<ClientConfig>) -> Tls<TcpPeer> {
    let mut client = Tls::new(world.connect(), config, "localhost");
    let hello = client.outgoing();
    client.peer.send(&hello);
    client
}

/// A loop that spins would take many turns in this time, one that sleeps takes few.
fn few_turns_pass(world: &mut TcpWorld) {
    let before = world.metrics().turns;
    world.pass(std::time::Duration::from_millis(300));
    let turns = world.metrics().turns - before;
    assert!(turns < 50, "{turns} turns in 300 ms with nothing to do");
}

#[test]
fn accepting_rests_while_not_even_the_spare_descriptor_helps() {
    let _alone = ALONE.lock();
    let (mut world, config) = world();
    let (mut first, mut second) = (client(&mut world, &config), client(&mut world, &config));
    // Fewer than are in use: even one that is closed cannot be taken again.
    let before = limit(3);
    few_turns_pass(&mut world);
    assert_eq!((world.metrics().opened, world.metrics().accepts_shed_no_descriptor), (0, 0));
    limit(before);
    first.handshake(&mut world).expect("accepting goes on");
    second.handshake(&mut world).expect("nobody was lost");
    // The spare one is there again.
    let _waiting = client(&mut world, &config);
    limit(256);
    let held = exhaust();
    world.until("it is shed", |w| w.metrics().accepts_shed_no_descriptor == 1);
    drop(held);
    limit(before);
}

#[test]
fn without_descriptors_connections_are_shed_and_the_listener_survives() {
    let _alone = ALONE.lock();
    let before = limit(256);
    let (mut world, config) = world();
    // Connected and with their first flight on the way before the last descriptor is taken.
    let mut clients: Vec<_> = (0..3).map(|_| client(&mut world, &config)).collect();
    let held = exhaust();
    assert!(TcpStream::connect(("127.0.0.1", 1)).is_err(), "there was a descriptor left");
    world.until("all three are shed", |w| w.metrics().accepts_shed_no_descriptor == 3);
    for client in &mut clients {
        world.until("their peers learn of it", |_| client.peer.is_eof() || client.peer.is_reset());
    }
    few_turns_pass(&mut world);

    drop(held);
    let mut client = Tls::new(world.connect(), &config, "localhost");
    client.handshake(&mut world).expect("the listener still accepts");
    client.close();
    world.until_empty();
    assert_eq!(world.metrics().handshakes(), 1);
    limit(before);
}
