//! The programs as they are, against the programs of other people.

mod certificates;
mod chromium;
mod client_auth;
mod comparing;
mod configuration;
mod curl;
mod examples;
mod facts;
mod gnutls;
mod h2_peers;
mod holding;
mod listeners;
mod loading;
mod measuring;
mod openssl;
mod our_client;
mod peers;
mod proxies;
mod s_client;
mod scanners;
mod server;
mod servers;
mod signals;
mod tickets;
mod usage;
mod websocket;
