//! Why something failed, and whose fault it was.

use core::fmt;

use rustls::AlertDescription;

/// Whose fault a failure is. How a connection ends, and which counter tells, goes by [`RefusalClass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Culprit {
    /// The peer broke a rule, offered nothing we can use, or went away.
    Peer,
    /// What the engine was told to do cannot be done.
    Config,
    /// This process or this machine failed.
    Local,
    /// There was more work than the limits allow.
    Overload,
}

/// Why a connection did not become a negotiated one, or was lost between the end of its handshake and its worker.
///
/// The handshake of one that was lost has been counted as completed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// The first bytes are a plain HTTP request.
    PlainHttp,
    /// The first bytes are an SSLv2 ClientHello.
    Sslv2,
    /// The first bytes are no TLS handshake record.
    NotTls,
    /// The ClientHello breaks its grammar (RFC 8446 section 4.1.2).
    HelloMalformed,
    /// The ClientHello is larger than [`Limits::client_hello_bytes`](crate::Limits::client_hello_bytes).
    HelloTooLarge,
    /// No offered ALPN protocol ID is ours (RFC 7301 section 3.2), or none was offered and none is the default.
    NoApplicationProtocol,
    /// No cipher suite in common.
    NoCommonSuite,
    /// The program's callback refused it, with this alert.
    ByCallback(AlertDescription),
    /// The program's callback chose a protocol that is not registered.
    UnregisteredProtocol,
    /// rustls refused it; most often the peer's doing.
    Tls(rustls::Error),
    /// Handshake bytes beyond [`Limits::handshake_bytes`](crate::Limits::handshake_bytes).
    HandshakeTooLarge,
    /// The peer ended the stream before the handshake was over.
    Vanished,
    /// The connection broke: reset, or an error of the network.
    Reset,
    /// [`Limits::handshake_deadline`](crate::Limits::handshake_deadline) passed.
    Deadline,
    /// [`Limits::handshakes_per_shard`](crate::Limits::handshakes_per_shard) are under way.
    HandshakesShed,
    /// Its source connects faster than [`SourceLimits::rate`](crate::limits::SourceLimits::rate).
    SourceRate,
    /// Its source has [`SourceLimits::handshakes`](crate::limits::SourceLimits::handshakes) under way.
    SourceHandshakes,
    /// Its source has [`SourceLimits::connections`](crate::limits::SourceLimits::connections).
    SourceConnections,
    /// The listener expects a PROXY protocol header, and not from there.
    ProxyUntrusted,
    /// The first bytes from a trusted proxy are no PROXY protocol header, or a broken one.
    ProxyHeader,
    /// The PROXY protocol header is larger than [`Limits::proxy_header_bytes`](crate::Limits::proxy_header_bytes).
    ProxyTooLarge,
    /// [`Limits::proxy_header_deadline`](crate::Limits::proxy_header_deadline) passed.
    ProxyDeadline,
    /// No worker had room within [`Limits::hand_off_wait`](crate::Limits::hand_off_wait).
    MailboxFull,
    /// The worker that the connection was for is gone.
    WorkerGone,
    /// The engine is shutting down.
    Draining,
}

/// [`Refusal`] without its details: what counters are kept by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RefusalClass {
    /// See [`Refusal::PlainHttp`].
    PlainHttp,
    /// See [`Refusal::Sslv2`].
    Sslv2,
    /// See [`Refusal::NotTls`].
    NotTls,
    /// See [`Refusal::HelloMalformed`].
    HelloMalformed,
    /// See [`Refusal::HelloTooLarge`].
    HelloTooLarge,
    /// See [`Refusal::NoApplicationProtocol`].
    NoApplicationProtocol,
    /// See [`Refusal::ByCallback`].
    ByCallback,
    /// No TLS version in common.
    NoCommonVersion,
    /// No cipher suite in common.
    NoCommonSuite,
    /// No key exchange group in common.
    NoCommonGroup,
    /// No identity fits the name and the signature schemes that were offered.
    NoIdentity,
    /// No client certificate where one is required, or one that does not verify.
    ClientCertificate,
    /// A Finished, a signature or a record that does not verify.
    BadCrypto,
    /// The peer sent a fatal alert: it refused us.
    PeerAlert,
    /// Any other fault in the peer's handshake messages.
    Misbehaved,
    /// See [`Refusal::HandshakeTooLarge`].
    HandshakeTooLarge,
    /// See [`Refusal::Vanished`].
    Vanished,
    /// See [`Refusal::Reset`].
    Reset,
    /// See [`Refusal::Deadline`].
    Deadline,
    /// See [`Refusal::HandshakesShed`].
    HandshakesShed,
    /// See [`Refusal::SourceRate`].
    SourceRate,
    /// See [`Refusal::SourceHandshakes`].
    SourceHandshakes,
    /// See [`Refusal::SourceConnections`].
    SourceConnections,
    /// See [`Refusal::ProxyUntrusted`].
    ProxyUntrusted,
    /// See [`Refusal::ProxyHeader`].
    ProxyHeader,
    /// See [`Refusal::ProxyTooLarge`].
    ProxyTooLarge,
    /// See [`Refusal::ProxyDeadline`].
    ProxyDeadline,
    /// See [`Refusal::MailboxFull`].
    MailboxFull,
    /// See [`Refusal::WorkerGone`].
    WorkerGone,
    /// See [`Refusal::Draining`].
    Draining,
    /// A failure of this process.
    Internal,
}

impl RefusalClass {
    /// Every class, in the order of the counters.
    pub const ALL: [Self; 31] = [
        Self::PlainHttp,
        Self::Sslv2,
        Self::NotTls,
        Self::HelloMalformed,
        Self::HelloTooLarge,
        Self::NoApplicationProtocol,
        Self::ByCallback,
        Self::NoCommonVersion,
        Self::NoCommonSuite,
        Self::NoCommonGroup,
        Self::NoIdentity,
        Self::ClientCertificate,
        Self::BadCrypto,
        Self::PeerAlert,
        Self::Misbehaved,
        Self::HandshakeTooLarge,
        Self::Vanished,
        Self::Reset,
        Self::Deadline,
        Self::HandshakesShed,
        Self::SourceRate,
        Self::SourceHandshakes,
        Self::SourceConnections,
        Self::ProxyUntrusted,
        Self::ProxyHeader,
        Self::ProxyTooLarge,
        Self::ProxyDeadline,
        Self::MailboxFull,
        Self::WorkerGone,
        Self::Draining,
        Self::Internal,
    ];

    /// Its name in metrics: lower case, underscores.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::Sslv2 => "sslv2",
            Self::NotTls => "not_tls",
            Self::HelloMalformed => "hello_malformed",
            Self::HelloTooLarge => "hello_too_large",
            Self::NoApplicationProtocol => "no_application_protocol",
            Self::ByCallback => "by_callback",
            Self::NoCommonVersion => "no_common_version",
            Self::NoCommonSuite => "no_common_suite",
            Self::NoCommonGroup => "no_common_group",
            Self::NoIdentity => "no_identity",
            Self::ClientCertificate => "client_certificate",
            Self::BadCrypto => "bad_crypto",
            Self::PeerAlert => "peer_alert",
            Self::Misbehaved => "misbehaved",
            Self::HandshakeTooLarge => "handshake_too_large",
            Self::Vanished => "vanished",
            Self::Reset => "reset",
            Self::Deadline => "deadline",
            Self::HandshakesShed => "handshakes_shed",
            Self::SourceRate => "source_rate",
            Self::SourceHandshakes => "source_handshakes",
            Self::SourceConnections => "source_connections",
            Self::ProxyUntrusted => "proxy_untrusted",
            Self::ProxyHeader => "proxy_header",
            Self::ProxyTooLarge => "proxy_too_large",
            Self::ProxyDeadline => "proxy_deadline",
            Self::MailboxFull => "mailbox_full",
            Self::WorkerGone => "worker_gone",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(self) -> Culprit {
        match self {
            Self::NoIdentity => Culprit::Config,
            Self::HandshakesShed
            | Self::SourceRate
            | Self::SourceHandshakes
            | Self::SourceConnections
            | Self::MailboxFull => Culprit::Overload,
            Self::WorkerGone | Self::Draining | Self::Internal => Culprit::Local,
            _ => Culprit::Peer,
        }
    }
}

impl Refusal {
    /// Its class, for counters.
    #[must_use]
    pub const fn class(&self) -> RefusalClass {
        match self {
            Self::PlainHttp => RefusalClass::PlainHttp,
            Self::Sslv2 => RefusalClass::Sslv2,
            Self::NotTls => RefusalClass::NotTls,
            Self::HelloMalformed => RefusalClass::HelloMalformed,
            Self::HelloTooLarge => RefusalClass::HelloTooLarge,
            Self::NoApplicationProtocol => RefusalClass::NoApplicationProtocol,
            Self::NoCommonSuite => RefusalClass::NoCommonSuite,
            Self::ByCallback(_) => RefusalClass::ByCallback,
            Self::UnregisteredProtocol => RefusalClass::Internal,
            Self::Tls(error) => class_of(error),
            Self::HandshakeTooLarge => RefusalClass::HandshakeTooLarge,
            Self::Vanished => RefusalClass::Vanished,
            Self::Reset => RefusalClass::Reset,
            Self::Deadline => RefusalClass::Deadline,
            Self::HandshakesShed => RefusalClass::HandshakesShed,
            Self::SourceRate => RefusalClass::SourceRate,
            Self::SourceHandshakes => RefusalClass::SourceHandshakes,
            Self::SourceConnections => RefusalClass::SourceConnections,
            Self::ProxyUntrusted => RefusalClass::ProxyUntrusted,
            Self::ProxyHeader => RefusalClass::ProxyHeader,
            Self::ProxyTooLarge => RefusalClass::ProxyTooLarge,
            Self::ProxyDeadline => RefusalClass::ProxyDeadline,
            Self::MailboxFull => RefusalClass::MailboxFull,
            Self::WorkerGone => RefusalClass::WorkerGone,
            Self::Draining => RefusalClass::Draining,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        self.class().culprit()
    }

    /// The alert that we send in plaintext because no TLS configuration was chosen yet; rustls sends its own.
    #[must_use]
    pub const fn plaintext_alert(&self) -> Option<AlertDescription> {
        match self {
            Self::Sslv2 => Some(AlertDescription::ProtocolVersion),
            Self::HelloMalformed | Self::HelloTooLarge => Some(AlertDescription::DecodeError),
            Self::NoApplicationProtocol => Some(AlertDescription::NoApplicationProtocol),
            Self::NoCommonSuite => Some(AlertDescription::HandshakeFailure),
            Self::ByCallback(alert) => Some(*alert),
            Self::UnregisteredProtocol => Some(AlertDescription::InternalError),
            _ => None,
        }
    }
}

/// Sorts what rustls reports.
const fn class_of(error: &rustls::Error) -> RefusalClass {
    use rustls::{Error, PeerIncompatible, PeerMisbehaved};
    match error {
        Error::PeerIncompatible(why) => match why {
            PeerIncompatible::NoCipherSuitesInCommon => RefusalClass::NoCommonSuite,
            PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NamedGroupsExtensionRequired => {
                RefusalClass::NoCommonGroup
            }
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => RefusalClass::NoCommonVersion,
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => RefusalClass::NoIdentity,
            _ => RefusalClass::Misbehaved,
        },
        Error::NoApplicationProtocol => RefusalClass::NoApplicationProtocol,
        Error::DecryptError
        | Error::PeerMisbehaved(
            PeerMisbehaved::IncorrectBinder | PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme,
        ) => RefusalClass::BadCrypto,
        Error::NoCertificatesPresented | Error::InvalidCertificate(_) => RefusalClass::ClientCertificate,
        Error::AlertReceived(_) => RefusalClass::PeerAlert,
        // rustls' word for a resolver that found no certificate.
        Error::General(_) => RefusalClass::NoIdentity,
        Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes | Error::EncryptError => RefusalClass::Internal,
        _ => RefusalClass::Misbehaved,
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp => f.write_str("a plain HTTP request on a TLS port"),
            Self::Sslv2 => f.write_str("an SSLv2 ClientHello"),
            Self::NotTls => f.write_str("the first bytes are no TLS handshake"),
            Self::HelloMalformed => f.write_str("a malformed ClientHello"),
            Self::HelloTooLarge => f.write_str("a ClientHello over the limit"),
            Self::NoApplicationProtocol => f.write_str("no ALPN protocol in common"),
            Self::NoCommonSuite => f.write_str("no cipher suite in common"),
            Self::ByCallback(alert) => write!(f, "refused by the selection callback with {alert:?}"),
            Self::UnregisteredProtocol => f.write_str("the selection callback chose a protocol that is not registered"),
            Self::Tls(error) => error.fmt(f),
            Self::HandshakeTooLarge => f.write_str("handshake messages over the limit"),
            Self::Vanished => f.write_str("the peer left before the handshake was over"),
            Self::Reset => f.write_str("the connection was reset"),
            Self::Deadline => f.write_str("the handshake deadline passed"),
            Self::HandshakesShed => f.write_str("too many handshakes are under way"),
            Self::SourceRate => f.write_str("its source connects too fast"),
            Self::SourceHandshakes => f.write_str("its source has too many handshakes under way"),
            Self::SourceConnections => f.write_str("its source has too many connections"),
            Self::ProxyUntrusted => f.write_str("not from a trusted proxy, as this listener demands"),
            Self::ProxyHeader => f.write_str("the first bytes are no PROXY protocol header"),
            Self::ProxyTooLarge => f.write_str("a PROXY protocol header over the limit"),
            Self::ProxyDeadline => f.write_str("no PROXY protocol header within its deadline"),
            Self::MailboxFull => f.write_str("no worker had room"),
            Self::WorkerGone => f.write_str("the worker is gone"),
            Self::Draining => f.write_str("the engine is shutting down"),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name_of_its_own() {
        let mut names: Vec<_> = RefusalClass::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RefusalClass::ALL.len());
    }
}
