//! Why a handshake failed, by class.

use std::borrow::Cow;
use std::io;

use rustix::io::Errno;
use rustls::{AlertDescription, Error, InvalidMessage};

/// What failed handshakes are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The target's host answered that nobody listens there.
    ConnectRefused,
    /// TCP did not connect in time.
    ConnectTimeout,
    /// TCP did not connect for another reason: no route, no descriptor.
    ConnectOther,
    /// No local port was free.
    NoPorts,
    /// No file descriptor was free.
    NoDescriptors,
    /// The peer reset the connection during the handshake.
    Reset,
    /// The peer ended the connection during the handshake.
    ClosedEarly,
    /// The peer sent a fatal alert.
    TlsAlert(u8),
    /// The peer's handshake is not acceptable to us.
    TlsError,
    /// What came back is no TLS.
    NotTls,
    /// TCP connected, but the handshake did not end in time.
    Timeout,
    /// The certificate does not verify.
    Verify,
    /// The handshake was complete, but the peer ended the connection instead of a response or an echo.
    NoResponse,
    /// The handshake was complete, but the response did not come in time.
    ResponseTimeout,
    /// The handshake was complete, but what came back is no response, or no echo.
    BadResponse,
    /// The handshake was complete, but the server would not speak WebSocket.
    NotUpgraded,
    /// The handshake was complete, but in a protocol that cannot carry what was to be said.
    WrongProtocol,
}

impl ErrorClass {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectOther => "connect_other",
            Self::NoPorts => "no_ports",
            Self::Reset => "reset",
            Self::ClosedEarly => "closed_early",
            Self::TlsError => "tls_error",
            Self::NotTls => "not_tls",
            Self::Timeout => "timeout",
            Self::Verify => "verify",
            Self::NoDescriptors => "no_descriptors",
            Self::NoResponse => "no_response",
            Self::ResponseTimeout => "response_timeout",
            Self::BadResponse => "bad_response",
            Self::NotUpgraded => "not_upgraded",
            Self::WrongProtocol => "wrong_protocol",
            Self::TlsAlert(code) => {
                return match alert_name(code) {
                    Some(name) => Cow::Owned(format!("tls_alert:{name}")),
                    None => Cow::Owned(format!("tls_alert:{code}")),
                };
            }
        })
    }

    /// What a person may do about it; empty when the class says all there is.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::ConnectRefused => "is the server running, and on this port?",
            Self::ConnectTimeout => "is the host up, and does a firewall let this port through?",
            Self::NoPorts => {
                "local ports ran out: use more source addresses (--source 127.0.0.0/24 on the loopback interface), start \
                 fewer connections per second, or widen net.ipv4.ip_local_port_range"
            }
            Self::NoDescriptors => {
                "file descriptors ran out: raise the hard limit (ulimit -Hn) or ask for fewer connections"
            }
            Self::NoResponse => "does the server serve this protocol? --then close measures handshakes alone",
            Self::ResponseTimeout => "the server finished the handshake, but did not answer: is --path what it serves?",
            Self::BadResponse => "does the server speak HTTP on this port?",
            Self::NotUpgraded => "does --path name a WebSocket that echoes?",
            Self::WrongProtocol => "a WebSocket needs http/1.1: leave --alpn out, or write --alpn http/1.1",
            Self::NotTls => "does this port speak TLS?",
            Self::ClosedEarly | Self::Reset => "does this port speak TLS, and does the server's log say why it closed?",
            Self::Timeout => "does this port speak TLS? it accepts connections, but does not answer",
            Self::Verify => "give the CA with --ca FILE, the name with --sni NAME, or leave --verify out",
            Self::TlsAlert(_) => "the server refused: try other --tls, --alpn, --groups or --sni",
            Self::ConnectOther | Self::TlsError => "",
        }
    }

    /// Whether the handshake itself was complete.
    #[must_use]
    pub const fn is_after_handshake(self) -> bool {
        matches!(
            self,
            Self::NoResponse | Self::ResponseTimeout | Self::BadResponse | Self::NotUpgraded | Self::WrongProtocol
        )
    }

    /// Whether this machine is to blame, and not the server.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::NoPorts | Self::NoDescriptors)
    }
}

/// A failed handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it is counted by.
    pub class: ErrorClass,
    /// What the system or TLS said, when it said more than the class does.
    pub detail: Option<Cow<'static, str>>,
}

impl From<ErrorClass> for Failure {
    fn from(class: ErrorClass) -> Self {
        Self { class, detail: None }
    }
}

impl Failure {
    /// A connection that could not be started or did not come up.
    #[must_use]
    pub fn connecting(error: &io::Error) -> Self {
        let descriptors = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        let class = match error.kind() {
            _ if error.raw_os_error().is_some_and(|code| descriptors.contains(&code)) => ErrorClass::NoDescriptors,
            io::ErrorKind::ConnectionRefused => ErrorClass::ConnectRefused,
            io::ErrorKind::TimedOut => ErrorClass::ConnectTimeout,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => ErrorClass::NoPorts,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ErrorClass::Reset,
            _ => ErrorClass::ConnectOther,
        };
        Self { class, detail: Some(Cow::Owned(error.to_string())) }
    }

    /// A connection that broke during the handshake.
    #[must_use]
    pub fn shaking(error: &io::Error) -> Self {
        let class = match error.kind() {
            io::ErrorKind::TimedOut => ErrorClass::Timeout,
            _ => ErrorClass::Reset,
        };
        Self { class, detail: Some(Cow::Owned(error.to_string())) }
    }

    /// A connection that broke while a response was awaited.
    #[must_use]
    pub fn talking(error: &io::Error) -> Self {
        Self { class: ErrorClass::NoResponse, detail: Some(Cow::Owned(error.to_string())) }
    }

    /// What rustls refused; `first` when nothing that the peer sent was understood before.
    #[must_use]
    pub fn tls(error: &Error, first: bool) -> Self {
        let class = match error {
            // RFC 8446 section 6.1: whatever its level, it says that nothing follows.
            Error::AlertReceived(AlertDescription::CloseNotify) => ErrorClass::ClosedEarly,
            Error::AlertReceived(alert) => return ErrorClass::TlsAlert(u8::from(*alert)).into(),
            Error::InvalidCertificate(_) => ErrorClass::Verify,
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::InvalidEmptyPayload
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::MessageTooShort,
            ) if first => ErrorClass::NotTls,
            _ => ErrorClass::TlsError,
        };
        Self { class, detail: Some(Cow::Owned(error.to_string())) }
    }
}

/// The name that RFC 8446 section 6 (or RFC 5246, RFC 7301) gives an alert.
const fn alert_name(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => return None,
    })
}

impl From<AlertDescription> for ErrorClass {
    fn from(alert: AlertDescription) -> Self {
        Self::TlsAlert(u8::from(alert))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_carry_the_name_of_the_rfc() {
        assert_eq!(
            ErrorClass::from(AlertDescription::NoApplicationProtocol).name(),
            "tls_alert:no_application_protocol"
        );
        assert_eq!(ErrorClass::TlsAlert(199).name(), "tls_alert:199");
    }

    #[test]
    fn connect_errors_fall_into_their_classes() {
        let class = |kind: io::ErrorKind| Failure::connecting(&kind.into()).class;
        assert_eq!(class(io::ErrorKind::ConnectionRefused), ErrorClass::ConnectRefused);
        assert_eq!(class(io::ErrorKind::AddrNotAvailable), ErrorClass::NoPorts);
        assert_eq!(class(io::ErrorKind::TimedOut), ErrorClass::ConnectTimeout);
        assert_eq!(class(io::ErrorKind::HostUnreachable), ErrorClass::ConnectOther);
        let descriptors = io::Error::from(Errno::MFILE);
        assert_eq!(Failure::connecting(&descriptors).class, ErrorClass::NoDescriptors);
    }

    #[test]
    fn garbage_counts_as_no_tls_only_at_the_beginning() {
        let error = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(Failure::tls(&error, true).class, ErrorClass::NotTls);
        assert_eq!(Failure::tls(&error, false).class, ErrorClass::TlsError);
    }
}
