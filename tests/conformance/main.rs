//! What other people's conformance suites say of us.

mod websocket;
