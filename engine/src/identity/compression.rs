//! Compressed certificates (RFC 8879).

use rustls::CertificateCompressionAlgorithm;
use rustls::compress::{CertCompressor, CompressionFailed, CompressionLevel};

/// Compresses certificates with brotli, which of the algorithms of RFC 8879 most browsers know.
pub const BROTLI: &dyn CertCompressor = &Brotli;

/// Of brotli's 0 to 11. Every shard compresses each chain once, in the handshake that needs it first, and the other
/// handshakes wait meanwhile, so it must not take long.
const QUALITY: i32 = 5;
/// The binary logarithm of the window: no chain is larger.
const WINDOW_BITS: i32 = 16;

#[derive(Debug)]
struct Brotli;

impl CertCompressor for Brotli {
    fn compress(&self, input: Vec<u8>, _: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        let params = brotli::enc::BrotliEncoderParams {
            quality: QUALITY,
            lgwin: WINDOW_BITS,
            size_hint: input.len(),
            ..Default::default()
        };
        let mut output = Vec::with_capacity(input.len());
        brotli::BrotliCompress(&mut &input[..], &mut output, &params).map_err(|_| CompressionFailed)?;
        Ok(output)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        CertificateCompressionAlgorithm::Brotli
    }
}
