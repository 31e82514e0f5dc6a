//! Reading of length-prefixed vectors (RFC 8446 section 3.4) that remembers where it is.

/// Where a part of a ClientHello's body is. At 0, where the version is, it stands for an absent part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    at: u16,
    len: u16,
}

impl Span {
    pub(super) const fn is_present(self) -> bool {
        self.at != 0
    }
}

/// A place in a ClientHello's body, and where the vector that it is in ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of the body.
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0, end: body.len() }
    }

    /// At the beginning of a part, and bounded by it.
    pub(super) fn within(body: &'a [u8], span: Span) -> Self {
        let at = usize::from(span.at);
        Self { body, at, end: body.len().min(at + usize::from(span.len)) }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// What is left, as bytes.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..self.end).unwrap_or_default()
    }

    /// What is left, as a place to come back to.
    pub(super) fn span(&self) -> Option<Span> {
        Some(Span { at: u16::try_from(self.at).ok()?, len: u16::try_from(self.end - self.at).ok()? })
    }

    /// Takes `len` bytes off the front.
    pub(super) fn take(&mut self, len: usize) -> Option<Self> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.end)?;
        let taken = Self { body: self.body, at: self.at, end };
        self.at = end;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.rest().first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.rest().first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// `opaque <0..2^8-1>`.
    pub(super) fn vector8(&mut self) -> Option<Self> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// `opaque <0..2^16-1>`.
    pub(super) fn vector16(&mut self) -> Option<Self> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// The cursor, if something is left.
    pub(super) fn not_empty(self) -> Option<Self> {
        (!self.is_empty()).then_some(self)
    }

    /// The cursor, if nothing is left.
    pub(super) fn empty(self) -> Option<Self> {
        self.is_empty().then_some(self)
    }
}
