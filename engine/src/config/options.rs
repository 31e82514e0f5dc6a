//! The keys of the engine's own option structs: limits, HTTP, WebSocket.

use super::choice::{OriginList, Texts};
use super::table::keys;
use super::tables::{Table, TableOrOff};
use super::value::{Bytes, Count, Flag, Number, NumberOrOff, Positive, Rate, Size, Time, TimeOrOff};
use crate::limits::{Limits, SourceLimits};
use crate::websocket::{Deflate, KeepAlive, Options as WebSocket};
use crate::worker::http1::Options as Http1;
use crate::worker::http2::Options as Http2;

keys! {
    Limits, "What the engine allows. Limits on HTTP and on WebSockets are in their own tables.";
    connections_per_shard: Positive = "Connections one shard holds at a time, in all states. Met: the shard stops \
        accepting until one closes; the kernel's backlog holds what comes meanwhile.";
    accepts_per_turn: Positive = "Connections accepted in one turn of a shard. Met: the rest wait for the next turn, \
        which follows at once.";
    read_bytes_per_turn: Bytes = "Bytes read from one connection in one turn. Met: the connection goes on in the \
        next turn, after the others.";
    handshakes_per_shard: Positive = "Handshakes under way at a time on one shard. Met: new connections are reset before \
        anything is read from them; those under way go on. The last quarter is kept for sources, as \
        `[limits.source]` has them, that have no handshake under way.";
    source: Table = "What one source address may have.";
    proxy_header_bytes: Bytes = "Bytes of a PROXY protocol header. Met: reset.";
    proxy_header_deadline: Time = "From accept to the end of the PROXY protocol header, for connections from trusted \
        proxies. Met: reset.";
    idle_deadline: Time = "How long a connection with a worker may go without a byte in either direction. Met: \
        close_notify and FIN; reset, if the peer did not take what was sent before.";
    control_records: Positive = "Records without application data (KeyUpdate, empty records, warning alerts) that a \
        connection with a worker may send in ten seconds. Met: reset.";
    client_hello_bytes: Bytes = "Bytes of the records that carry a ClientHello. Met: alert `decode_error`, close.";
    handshake_bytes: Bytes = "Bytes kept of a handshake after the ClientHello that are not yet a whole message. Met: \
        close.";
    handshake_deadline: Time = "From accept to the end of the handshake. Met: close.";
    early_sessions: Count = "Sessions kept for early data, by all shards together. Met: the oldest are forgotten, and \
        handshake in full.";
    early_session_bytes: Bytes = "Bytes of memory that they take, about. Met: as for `early_sessions`.";
    unsent_wait: Time = "How long a refused or finished connection may go without taking any of what we still have \
        to send. Met: reset.";
    linger: Time = "How long a refused or finished connection may stay open after our FIN, so that it can read our \
        last bytes. Met: close.";
    close_wait: Time = "How long a connection of a protocol that is served with `close` waits for the peer's \
        close_notify. Met: close.";
    stream_read_bytes: Bytes = "Received plaintext that a worker has not yet taken. Met: the socket is not read \
        until it has.";
    stream_write_bytes: Bytes = "Plaintext that a worker has written and the socket has not taken. Met: the worker's \
        write waits.";
    mailbox_depth: Positive = "Negotiated connections that wait for one worker thread. Met: the other workers are \
        tried, then the shard stops accepting.";
    hand_off_wait: Time = "How long a negotiated connection waits for room in a mailbox. Met: reset, and the shard \
        accepts again.";
    drain_deadline: Time = "How long a drain waits for connections to end by themselves. Met: they are reset.";
}

keys! {
    SourceLimits, "What all addresses of one prefix may have together on one shard; nothing is limited unless it is \
        set. A source behind a trusted proxy is the address in the proxy's header, and the proxy itself is not limited. \
        Unix-domain sockets have no source. The kernel spreads the connections of a source over all shards.";
    prefix_v4: Number<0, 32> = "Leading bits of an IPv4 address that make a source.";
    prefix_v6: Number<0, 128> = "The same for IPv6; 64 is what one customer commonly has.";
    rate: Rate = "New connections a second: `per_second` in the long run, `burst` at once after a pause. Met: reset.";
    handshakes: NumberOrOff = "Handshakes under way at a time. Met: reset.";
    connections: NumberOrOff = "Connections that the shard holds at a time, in all states; one that has left for a \
        worker thread no longer counts. Met: reset.";
    remembered: Count = "Sources without a connection whose rate is remembered. Met: the one without for longest is \
        forgotten, and may begin anew.";
}

keys! {
    Http1, "What a connection of `http/1.1` is allowed, where `handfast` serves it itself.";
    header_read_timeout: Time = "From the end of one request, or of the handshake, to the end of the next one's \
        header section. Met: close.";
    header_bytes_max: Bytes = "Bytes of one request's header section with its request line, and of the trailers of a \
        chunked one. Met: status 431, close; 400 for trailers.";
    headers_max: Positive = "Header fields of one request. Met: status 431, close.";
    buffer_bytes_max: Size<8192, { u32::MAX as u64 }> = "Bytes of requests that are read ahead, and of responses that \
        wait for the socket. Met: no more is read, and the response waits; status 431 and close when no header \
        section ends within it.";
    write_wait: Time = "How long a write may wait for the client to take what it was sent before, after an upgrade \
        as well. Met: close.";
    content_wait: TimeOrOff = "How long a service that reads a request's content may wait for more of it, until its \
        answer begins. Met: the connection is closed after the answer.";
    keep_alive: Flag = "Whether a connection serves more than one request (RFC 9112 section 9.3).";
    pipeline_flush: Flag = "Whether the answers to pipelined requests (RFC 9112 section 9.3.2) leave together rather \
        than each as soon as it is there.";
    half_close: Flag = "Whether a client that has ended its direction still gets the answer under way. With it a \
        client that is gone is not noticed before something is written to it.";
}

keys! {
    Http2, "What a connection of `h2` is allowed, where `handfast` serves it itself.",
    not_keys(connect_protocol);
    concurrent_streams_max: Count = "Streams that a client may have open at a time (RFC 9113 section 5.1.2). Met: \
        the stream is refused with `REFUSED_STREAM`.";
    header_list_bytes_max: Bytes = "Bytes of one header section, uncompressed (RFC 9113 section 6.5.2). Met: status \
        431; far beyond it, GOAWAY.";
    pending_resets_max: Count = "Streams that the client has reset before they were taken up (CVE-2023-44487). Met: \
        GOAWAY with `ENHANCE_YOUR_CALM`.";
    local_resets_max: Count = "Streams that had to be reset for the client's faults. Met: GOAWAY with \
        `ENHANCE_YOUR_CALM`.";
    stream_window_bytes: Size<1, 0x7fff_ffff> = "Content of one stream that has not been read (RFC 9113 section \
        6.9.2). Met: the client has to wait with this stream; `FLOW_CONTROL_ERROR` resets it if it does not.";
    connection_window_bytes: Size<0xffff, 0x7fff_ffff> = "The same for all streams together, from 65,535 bytes. Met: \
        the client has to wait; GOAWAY with `FLOW_CONTROL_ERROR` if it does not.";
    frame_bytes_max: Size<0x4000, 0xff_ffff> = "Payload of one frame (RFC 9113 section 4.2), from 16 KiB to 16 MiB - \
        1. Met: GOAWAY with `FRAME_SIZE_ERROR`.";
    send_buffer_bytes_max: Size<1, 0xffff_ffff> = "Response bytes of one stream that wait for the client's window. \
        Met: the response waits.";
    preface_deadline: Time = "From the handshake to the client's preface with its SETTINGS (RFC 9113 section 3.4). \
        Met: close.";
    idle_deadline: Time = "How long a connection may be without a stream to answer. Met: GOAWAY with `NO_ERROR`.";
    goaway_wait: Time = "How long the client of an idle connection may take after that GOAWAY to confirm it and to \
        take what is left for it. Met: close.";
    keep_alive_interval: TimeOrOff = "After how long without a frame from the client it is asked for a sign of life \
        with a PING (RFC 9113 section 6.7). Met: see `keep_alive_timeout`.";
    keep_alive_timeout: Time = "How long the client may take to answer that PING. Met: GOAWAY, close.";
    write_wait: Time = "How long a write may wait for the client to take what it was sent before, whatever its \
        windows allow. Met: close.";
    window_wait: Time = "How long content of one stream may wait for the client to open its windows (RFC 9113 section \
        6.9), and for its turn among the other streams of a slow client, from the last time that some of it could go. \
        Met: the stream is reset with `CANCEL`.";
    content_wait: TimeOrOff = "How long a service that reads a request's content may wait for more of it, until its \
        answer begins. Met: reading fails, and the stream may be reset with `CANCEL`.";
}

keys! {
    WebSocket, "What a WebSocket is allowed, where `handfast` echoes to it: on any path of a protocol that is served \
        with `facts`, over `http/1.1` and `h2`.";
    frame_bytes_max: Bytes = "Payload of one frame, as sent and as decompressed. Met: close with 1009 (RFC 6455 \
        section 7.4.1).";
    message_bytes_max: Bytes = "Payload of one message, decompressed. Met: close with 1009.";
    deflate: TableOrOff = "permessage-deflate (RFC 7692), if the client wants it too.";
    subprotocols: Texts = "Subprotocols (RFC 6455 section 1.9), the most preferred first: the first one that the \
        client offers as well is chosen, none when there is no such.";
    origins: OriginList = "Which pages WebSockets are taken from, by their `Origin` (RFC 6455 section 10.2). Met: \
        status 403.";
    keep_alive: TableOrOff = "Pings to a client that says nothing (RFC 6455 section 5.5.2). Met: close with 1011, and \
        the connection is given up.";
    close_wait: Time = "From our Close frame to the client's, and to the end of the connection. Met: the connection \
        is closed without.";
    send_timeout: Time = "From the moment when sending has to wait for the client until everything is taken. Met: \
        the connection is given up.";
    buffer_bytes: Bytes = "Bytes that an idle WebSocket keeps for reading, and as many for writing. More are taken \
        for larger messages and given back after them.";
}

keys! {
    KeepAlive, "Pings to a client that says nothing.";
    ping_interval: Time = "When nothing has come for as long, a Ping is sent; after at most twice as long.";
    pong_wait: Time = "From the Ping to the next sign of life, which may be anything. Met: close with 1011.";
}

keys! {
    Deflate, "permessage-deflate (RFC 7692). A connection that has used it keeps a few hundred KiB, but for those \
        without context takeover.",
    not_keys(pool);
    level: Number<1, 9> = "From 1, fast, to 9, small.";
    message_bytes_min: Size<0, { u32::MAX as u64 }> = "Shorter messages are sent as they are.";
    server_window_bits: Number<9, 15> = "Base-2 logarithm of the window that the server compresses with, 9 to 15 \
        (RFC 7692 section 7.1.2.1).";
    client_window_bits: Number<9, 15> = "The same of the client, which is asked for less than 15 only if it offers \
        it (RFC 7692 section 7.1.2.2).";
    server_no_context_takeover: Flag = "The server starts each message with an empty window (RFC 7692 section \
        7.1.1.1): larger messages, but an idle connection keeps no compressor.";
    client_no_context_takeover: Flag = "The client does (RFC 7692 section 7.1.1.2), and an idle connection keeps no \
        decompressor for it.";
}
