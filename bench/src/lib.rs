//! What the side-by-side runs share: servers as child processes, certificates in files, figures with their noise.

pub mod figures;
pub mod servers;
