//! The handshake as a state machine over bytes: no socket, no clock, no randomness.

pub mod hello;
