//! Between which configurations a session may be resumed.

use aws_lc_rs::digest;

use super::sha256;

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientAuthMode {
    /// They are not asked for one.
    #[default]
    None,
    /// They are asked, and one that is shown must verify.
    Optional,
    /// They must show one that verifies.
    Required,
}

/// What must be equal for a session to be resumed: a digest of the certificate set's name, the client-auth mode and
/// the set of client CA roots and revocation lists (their DER), in whatever order. Equal on every host.
///
/// A resumed session brings its client certificate along and nobody verifies it again, so tickets of one domain must
/// not open in another.
#[must_use]
pub fn ticket_domain<T: AsRef<[u8]>>(
    set_name: &str,
    client_auth: ClientAuthMode,
    client_ca_roots: impl IntoIterator<Item = T>,
) -> [u8; 32] {
    let mut roots: Vec<_> = client_ca_roots.into_iter().map(|der| sha256(der.as_ref())).collect();
    roots.sort_unstable();
    roots.dedup();
    // Each part of variable length is digested first, so no two inputs run together.
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"handfast ticket domain 1");
    context.update(&sha256(set_name.as_bytes()));
    context.update(match client_auth {
        ClientAuthMode::None => &[0],
        ClientAuthMode::Optional => &[1],
        ClientAuthMode::Required => &[2],
    });
    context.update(roots.as_flattened());
    let mut domain = [0; 32];
    domain.copy_from_slice(context.finish().as_ref());
    domain
}
