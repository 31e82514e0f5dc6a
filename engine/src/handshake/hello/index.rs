//! The outline of a ClientHello (RFC 8446 section 4.1.2): checked once, kept as offsets.

use rustls::pki_types::DnsName;

use super::cursor::{Cursor, Span};

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
pub(super) const KEY_SHARE: u16 = 51;

/// RFC 6066 section 3.
const NAME_TYPE_HOST_NAME: u8 = 0;

/// Where the parts are: the contents of each vector, without the length in front.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Index {
    pub(super) session_id: Span,
    pub(super) cipher_suites: Span,
    pub(super) extensions: Span,
    pub(super) server_name: Span,
    pub(super) alpn: Span,
    pub(super) signature_schemes: Span,
    pub(super) supported_versions: Span,
    pub(super) groups: Span,
    pub(super) key_shares: Span,
    pub(super) psk: bool,
    pub(super) early_data: bool,
}

impl Index {
    /// Reads a whole body; `None` when it breaks the grammar.
    pub(super) fn read(mut body: Cursor<'_>) -> Option<Self> {
        let mut index = Self::default();
        body.take(2 + 32)?;
        let session_id = body.vector8()?;
        if session_id.rest().len() > 32 {
            return None;
        }
        index.session_id = session_id.span()?;
        index.cipher_suites = pairs(body.vector16()?)?;
        body.vector8()?.not_empty()?;
        // A ClientHello may end here, without extensions (RFC 5246 section 7.4.1.2).
        if !body.is_empty() {
            let extensions = body.vector16()?;
            body.empty()?;
            index.extensions = extensions.span()?;
            index.read_extensions(extensions)?;
        }
        Some(index)
    }

    fn read_extensions(&mut self, mut extensions: Cursor<'_>) -> Option<()> {
        let mut seen = Seen::default();
        while !extensions.is_empty() {
            // "The pre_shared_key extension MUST be the last extension" (RFC 8446 section 4.2.11).
            if self.psk {
                return None;
            }
            let kind = extensions.u16()?;
            let body = extensions.vector16()?;
            // "There MUST NOT be more than one extension of the same type" (RFC 8446 section 4.2).
            if !seen.insert(kind) {
                return None;
            }
            self.read_extension(kind, body)?;
        }
        Some(())
    }

    fn read_extension(&mut self, kind: u16, mut body: Cursor<'_>) -> Option<()> {
        match kind {
            SERVER_NAME => self.server_name = host_name(only16(body)?.not_empty()?)?,
            SUPPORTED_GROUPS => self.groups = pairs(only16(body)?)?,
            SIGNATURE_ALGORITHMS => self.signature_schemes = pairs(only16(body)?)?,
            ALPN => self.alpn = protocol_names(only16(body)?.not_empty()?)?,
            PRE_SHARED_KEY => self.psk = true,
            EARLY_DATA => {
                body.empty()?;
                self.early_data = true;
            }
            SUPPORTED_VERSIONS => {
                self.supported_versions = pairs(body.vector8()?)?;
                body.empty()?;
            }
            KEY_SHARE => self.key_shares = key_shares(only16(body)?)?,
            _ => {}
        }
        Some(())
    }
}

/// The one vector that an extension consists of.
fn only16(mut body: Cursor<'_>) -> Option<Cursor<'_>> {
    let contents = body.vector16()?;
    body.empty().map(|_| contents)
}

/// A list of 16-bit values, at least one.
fn pairs(list: Cursor<'_>) -> Option<Span> {
    let len = list.rest().len();
    if len == 0 || !len.is_multiple_of(2) {
        return None;
    }
    list.span()
}

/// `ProtocolName protocol_name_list<2..2^16-1>`: no name is empty (RFC 7301 section 3.1).
fn protocol_names(list: Cursor<'_>) -> Option<Span> {
    let mut names = list;
    while !names.is_empty() {
        names.vector8()?.not_empty()?;
    }
    list.span()
}

/// `KeyShareEntry client_shares<0..2^16-1>`, no share being empty (RFC 8446 section 4.2.8).
fn key_shares(list: Cursor<'_>) -> Option<Span> {
    let mut entries = list;
    while !entries.is_empty() {
        entries.u16()?;
        entries.vector16()?.not_empty()?;
    }
    list.span()
}

/// The one host name of a server name list (RFC 6066 section 3), without the final dot that some send. Absent if it is none that rustls would take: an
/// IP literal, which rustls ignores, or not a DNS name, which rustls answers with an alert of its own.
fn host_name(mut list: Cursor<'_>) -> Option<Span> {
    let mut found = None;
    while !list.is_empty() {
        // Names of another type have no length that could be skipped: the rest is theirs.
        if list.u8()? != NAME_TYPE_HOST_NAME {
            break;
        }
        let name = list.vector16()?.not_empty()?;
        // "MUST NOT contain more than one name of the same name_type".
        if found.replace(name).is_some() {
            return None;
        }
    }
    match found {
        Some(mut name) if DnsName::try_from(name.rest()).is_ok() => {
            let bytes = name.rest();
            name.take(bytes.strip_suffix(b".").unwrap_or(bytes).len())?.span()
        }
        _ => Some(Span::default()),
    }
}

/// The extension types of one ClientHello. Constant work for each, whatever a client makes up, and nothing
/// allocated for fewer than [`Seen::FEW`] that are not in common use.
#[derive(Default)]
struct Seen {
    /// Types below 64: nearly all that are assigned.
    low: u64,
    /// The others, GREASE among them (RFC 8701).
    few: [u16; Self::FEW],
    few_len: usize,
    /// One bit for every type, once there are too many of them.
    many: Option<Box<[u64; 1024]>>,
}

impl Seen {
    const FEW: usize = 16;

    /// Whether the type is new.
    fn insert(&mut self, kind: u16) -> bool {
        if kind < 64 {
            return set(&mut self.low, kind);
        }
        if let Some(many) = &mut self.many {
            return set(&mut many[usize::from(kind / 64)], kind % 64);
        }
        if self.few[..self.few_len].contains(&kind) {
            return false;
        }
        if self.few_len < Self::FEW {
            self.few[self.few_len] = kind;
            self.few_len += 1;
            return true;
        }
        let mut many = Box::new([0; 1024]);
        for kind in self.few {
            set(&mut many[usize::from(kind / 64)], kind % 64);
        }
        let many = self.many.insert(many);
        set(&mut many[usize::from(kind / 64)], kind % 64)
    }
}

/// Sets a bit and says whether it was clear.
const fn set(word: &mut u64, bit: u16) -> bool {
    let mask = 1 << bit;
    let clear = *word & mask == 0;
    *word |= mask;
    clear
}
