//! OCSP responses that go with a certificate (RFC 6960, RFC 6066 section 8).

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_ocsp::{BasicOcspResponse, CertId, CertStatus, OcspResponse, OcspResponseStatus};

use super::error::{IdentityError, Place};
use super::parse;

const ID_PKIX_OCSP_BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const ID_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const ID_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// What a response says about its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Staple {
    /// Until when it counts; some responders do not say.
    pub(super) until: Option<UnixTime>,
    pub(super) revoked: bool,
}

/// Reads `der` and looks for `leaf` in it. Its signature is for clients to check.
pub(super) fn read(der: &[u8], leaf: &CertificateDer<'_>, at: &Place) -> Result<Staple, IdentityError> {
    let malformed = || IdentityError::OcspMalformed { at: at.clone() };
    let response = OcspResponse::from_der(der).map_err(|_| malformed())?;
    if response.response_status != OcspResponseStatus::Successful {
        return Err(IdentityError::OcspUnsuccessful { at: at.clone() });
    }
    let bytes = response.response_bytes.filter(|b| b.response_type == ID_PKIX_OCSP_BASIC).ok_or_else(malformed)?;
    let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).map_err(|_| malformed())?;
    let leaf = parse(leaf).ok_or_else(malformed)?;
    let (serial, issuer) = (leaf.raw_serial(), leaf.issuer().as_raw());
    let mut singles = basic.tbs_response_data.responses.into_iter();
    let single = singles.find(|single| concerns(&single.cert_id, serial, issuer));
    let single = single.ok_or_else(|| IdentityError::OcspForeign { at: at.clone() })?;
    Ok(Staple {
        until: single.next_update.map(|t| UnixTime::since_unix_epoch(t.0.to_unix_duration())),
        revoked: matches!(single.cert_status, CertStatus::Revoked(_)),
    })
}

fn concerns(id: &CertId, serial: &[u8], issuer: &[u8]) -> bool {
    let algorithm = match id.hash_algorithm.oid {
        ID_SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        ID_SHA256 => &digest::SHA256,
        // Of another digest the serial number must do.
        _ => return significant(id.serial_number.as_bytes()) == significant(serial),
    };
    significant(id.serial_number.as_bytes()) == significant(serial)
        && digest::digest(algorithm, issuer).as_ref() == id.issuer_name_hash.as_bytes()
}

/// Without leading zeros, which only keep a number positive.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
