//! What the side-by-side runs share: servers as child processes, certificates in files, a client that asks one
//! request after another, figures with their noise.

pub mod exchange;
pub mod figures;
pub mod servers;
