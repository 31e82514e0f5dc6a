//! A client's side of compressed certificates (RFC 8879).

use std::sync::atomic::{AtomicUsize, Ordering};

use handfast::identity::BROTLI;
use handfast::rustls::CertificateCompressionAlgorithm;
use handfast::rustls::compress::{CertDecompressor, DecompressionFailed};

/// Decompresses brotli, and counts how often.
#[derive(Debug, Default)]
pub struct Decompressing(AtomicUsize);

impl Decompressing {
    /// How often so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl CertDecompressor for Decompressing {
    fn decompress(&self, input: &[u8], output: &mut [u8]) -> Result<(), DecompressionFailed> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let mut plain = Vec::new();
        brotli::BrotliDecompress(&mut &input[..], &mut plain).map_err(|_| DecompressionFailed)?;
        (plain.len() == output.len()).then(|| output.copy_from_slice(&plain)).ok_or(DecompressionFailed)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        BROTLI.algorithm()
    }
}
