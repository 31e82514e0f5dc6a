//! How an engine ends that nobody asked to.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use handfast::{Builder, Placement, Protocol};

use crate::harness::{Certificate, builder};

/// Takes the thread down that drops it, if that is the one.
struct Bomb {
    thread: &'static str,
    dropped: Sender<bool>,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        let there = thread::current().name() == Some(self.thread);
        let _ = self.dropped.send(there);
        assert!(!there, "planted");
    }
}

#[test]
fn an_engine_does_not_go_on_without_one_of_its_threads() {
    let certificate = Certificate::new();
    let minute = Duration::from_secs(60);
    for (thread, placement) in [("hf-shard-1", Placement::SharedCore), ("hf-worker-0", Placement::Threads(2))] {
        let (dropped, drops) = channel();
        let armed = || -> Builder {
            let bomb = Bomb { thread, dropped: dropped.clone() };
            let protocol = Protocol::alpn("chat/1").serve(move |_| {
                let _ = &bomb;
                async {}
            });
            builder(placement, &certificate, [protocol]).shards(2)
        };
        let engine = armed().start().unwrap();
        // Whoever lets go of the old protocol last drops what it holds.
        let died = (0..1000).any(|_| {
            engine.handle().reload(armed()).unwrap();
            drops.recv_timeout(minute).unwrap()
        });
        assert!(died, "{thread} was never the last");
        let (joined, ended) = channel();
        let handle = engine.handle().clone();
        let waiting = thread::spawn(move || joined.send(engine.join().err().map(|e| e.to_string())));
        let ended = ended.recv_timeout(minute);
        // Or the test would go on for ever.
        handle.drain();
        assert_eq!(ended.expect("it goes on").as_deref(), Some("a thread of the engine panicked"));
        waiting.join().unwrap().unwrap();
    }
}
