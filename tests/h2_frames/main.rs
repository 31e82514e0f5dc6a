//! HTTP/2 frame by frame: what RFC 9113 demands of a server, each case named by its section; how a site's limits hold;
//! and how content and ends of connections go.
//!
//! Where several outcomes are allowed, the one that is asserted is the library's, and a comment says what allows it.

mod content;
mod deadlines;
mod floods;
mod flow;
mod framing;
mod messages;
mod settings;
mod site;
mod streams;
