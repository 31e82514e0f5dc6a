//! Honest handshakes beside a flood from other addresses.

use std::collections::VecDeque;
use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use handfast_bench::figures::Spread;
use handfast_bench::servers::{Certificate, pin_to};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::{clients, server};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Honest handshakes a second
    #[arg(long, default_value_t = 50)]
    honest: u64,
    /// Connections of the flood a second
    #[arg(long, default_value_t = 5000)]
    rate: u64,
    /// Addresses that the flood comes from
    #[arg(long, default_value_t = 200)]
    sources: u32,
    /// Connections that the flood keeps open
    #[arg(long, default_value_t = 8000)]
    held: usize,
    /// Connections a second that the server allows one source; 0 for no limit
    #[arg(long, default_value_t = 20)]
    source_rate: u32,
}

/// The longest that an honest client waits for its next byte.
const PATIENCE: Duration = Duration::from_secs(10);
const HONEST_THREADS: usize = 32;

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let certificate = Certificate::make()?;
    let rate = args.source_rate.to_string();
    let limits = if args.source_rate > 0 { vec!["--source-rate", &rate] } else { Vec::new() };
    let server = server::start(&certificate, &limits)?;
    handfast::transport::tcp::raise_descriptor_limit()?;
    pin_to(1)?;
    let config = clients::config(&certificate)?;
    let (next, good, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let times = Mutex::new(Vec::new());
    let total = args.honest * args.seconds;
    let before = server.cpu()?;
    let start = Instant::now();
    let flooded = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(args, server.addr, &done));
        let honest: Vec<_> = (0..HONEST_THREADS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= total {
                            return;
                        }
                        let due = start + Duration::from_secs(1).mul_f64(1.0 / as_f64(args.honest)).mul_f64(as_f64(n));
                        // Handshakes come at a rate, however long each takes.
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let source = Ipv4Addr::new(127, 3, 0, u8::try_from(n % 50).unwrap_or(0) + 1);
                        if clients::handshake(&config, source, server.addr, &[], PATIENCE).is_ok() {
                            good.fetch_add(1, Ordering::Relaxed);
                            let took = due.elapsed().as_secs_f64() * 1e3;
                            times.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(took);
                        }
                    }
                })
            })
            .collect();
        for thread in honest {
            let _ = thread.join();
        }
        done.store(true, Ordering::Relaxed);
        flood.join().unwrap_or_default()
    });
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = (server.cpu()? - before).as_secs_f64();
    let good = good.into_inner();
    println!("{good} of {total} honest handshakes completed: {:.2} %", as_f64(good) * 100.0 / as_f64(total));
    if let Some(times) = Spread::of(&times.into_inner().unwrap_or_default()) {
        println!("from due to closed, ms, min / median / max: {times:.1}");
    }
    println!("flood: {flooded} connections from {} sources, {:.0} a second", args.sources, as_f64(flooded) / elapsed);
    println!("server CPU: {:.1} % of one core", cpu * 100.0 / elapsed);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "counts of a run of seconds")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

/// Connections of three kinds in turn: one that says nothing, one that begins a ClientHello and stops, one that sends
/// garbage. How many there were.
fn flood(args: &Args, to: SocketAddr, done: &AtomicBool) -> u64 {
    let (start, mut made) = (Instant::now(), 0);
    let mut held = VecDeque::with_capacity(args.held + 1);
    while !done.load(Ordering::Relaxed) {
        let due = start.elapsed().as_secs_f64() * as_f64(args.rate);
        if as_f64(made) >= due {
            // The flood has a rate too; all that became due meanwhile is sent at once.
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let n = u32::try_from(made).unwrap_or(0);
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 4, 0, 1)) + n % args.sources);
        made += 1;
        let Ok(mut stream) = begun(source, to) else { continue };
        // Whatever the server says to these is not read.
        let _ = match n / args.sources % 3 {
            0 => Ok(()),
            1 => stream.write_all(&[22, 3, 1, 0x02, 0, 1, 0, 1, 0xfc, 3, 3]),
            _ => stream.write_all(&[0x5a; 200]),
        };
        held.push_back(stream);
        if held.len() > args.held {
            held.pop_front();
        }
    }
    made
}

/// A connection that is on its way: waiting for it would let a full backlog slow the flood down.
fn begun(source: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd: OwnedFd = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&fd, &SocketAddr::from((source, 0)))?;
    match connect(&fd, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(fd.into()),
        Err(e) => Err(e.into()),
    }
}
