//! Server CPU per full handshake, with everything on and with everything off.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use handfast_bench::figures::{Interval, Spread};
use handfast_bench::servers::{Certificate, Server, pin_to};

use crate::{clients, server};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Clients at a time
    #[arg(long, default_value_t = 32)]
    clients: usize,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let certificate = Certificate::make()?;
    let off = server::start(&certificate, &[])?;
    let on = server::start(&certificate, &["--source-rate", "1000000", "--proxy-protocol"])?;
    pin_to(1)?;
    let config = clients::config(&certificate)?;
    let measure = |server: &Server, proxied: bool| -> Result<(f64, u64), Box<dyn Error>> {
        let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let failed = AtomicU64::new(0);
        let before = server.cpu()?;
        thread::scope(|scope| {
            for _ in 0..args.clients {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        // Another client of 198.18.0.0/15 each time, as the table of sources likes it least.
                        let n = u32::try_from(count.fetch_add(1, Ordering::Relaxed) % (1 << 17)).unwrap_or(0);
                        let named = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n);
                        let header = if proxied { clients::header(named) } else { Vec::new() };
                        let patience = Duration::from_secs(5);
                        if clients::handshake(&config, Ipv4Addr::LOCALHOST, server.addr, &header, patience).is_err() {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            // The measurement is how much is done in this time.
            thread::sleep(Duration::from_secs(args.seconds));
            done.store(true, Ordering::Relaxed);
        });
        let (all, failed) = (count.into_inner(), failed.into_inner());
        if failed > 0 {
            return Err(format!("{failed} of {all} handshakes failed").into());
        }
        #[allow(clippy::cast_precision_loss, reason = "a few thousand handshakes")]
        let us = (server.cpu()? - before).as_secs_f64() * 1e6 / all as f64;
        Ok((us, all))
    };
    measure(&off, false)?;
    measure(&on, true)?;
    let (mut with, mut without, mut handshakes) = (Vec::new(), Vec::new(), 0);
    for round in 0..args.rounds {
        for proxied in [round % 2 == 0, round % 2 != 0] {
            let (us, all) = measure(if proxied { &on } else { &off }, proxied)?;
            if proxied {
                with.push(us)
            } else {
                without.push(us)
            }
            handshakes += all;
        }
    }
    let ratios: Vec<f64> = with.iter().zip(&without).map(|(on, off)| on / off).collect();
    println!("server CPU per full TLS 1.3 handshake in us, min / median / max of {} rounds", args.rounds);
    println!("{} clients, {handshakes} handshakes in all\n", args.clients);
    for (name, values, digits) in
        [("rate, counts and PROXY v2", &with, 1), ("none of them", &without, 1), ("ratio", &ratios, 3)]
    {
        if let Some(spread) = Spread::of(values) {
            println!("{name:<28} {spread:.digits$}");
        }
    }
    if let Some(interval) = Interval::of_ratios(&ratios) {
        println!("95 % interval of the ratio    {interval}");
    }
    Ok(())
}
