//! How values are written: one of several forms.

use std::net::IpAddr;

use ipnet::IpNet;
use rustls::CertificateCompressionAlgorithm;
use rustls::compress::CertCompressor;
use toml::de::DeValue;

use super::table::{Item, Kind, Reader};
use super::value::{OFF, Scalar, integer, scalar};
use crate::crypto::Crypto;
use crate::engine::{Pin, Placement};
use crate::handshake::TlsVersions;
use crate::identity::{BROTLI, ClientAuthMode};
use crate::proxy::ProxyProtocol;
use crate::websocket::Origins;

/// One of some words.
pub(super) struct Choice;

/// What a [`Choice`] chooses from.
pub(super) trait Words: Copy + PartialEq + 'static {
    const KIND: &'static str;
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Words> Kind<T> for Choice {
    const NAME: &'static str = T::KIND;

    fn read(into: &mut T, item: &Item<'_>, reader: &mut Reader<'_>) {
        let chosen = item.value().as_str().and_then(|text| T::WORDS.iter().find(|(word, _)| *word == text));
        match chosen {
            Some((_, value)) => *into = *value,
            None => reader.misfit(item, T::KIND),
        }
    }

    fn show(value: &T) -> Option<String> {
        T::WORDS.iter().find(|(_, v)| v == value).map(|(word, _)| format!("\"{word}\""))
    }
}

impl Words for ClientAuthMode {
    const KIND: &'static str = "\"none\", \"optional\" or \"required\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("optional", Self::Optional), ("required", Self::Required)];
}

impl Words for Crypto {
    const KIND: &'static str = "\"aws-lc\", \"batch\" or \"auto\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("aws-lc", Self::AwsLc), ("batch", Self::Batch), ("auto", Self::Auto)];
}

/// TLS versions, as a list.
pub(super) struct Versions;

const VERSIONS: &str = "[\"1.2\", \"1.3\"], [\"1.3\"] or [\"1.2\"]";

impl Scalar<TlsVersions> for Versions {
    const NAME: &'static str = VERSIONS;

    fn expected() -> String {
        VERSIONS.to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<TlsVersions> {
        let mut versions = texts(value)?;
        versions.sort_unstable();
        match versions.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["1.2", "1.3"] => Some(TlsVersions::Tls12And13),
            ["1.3"] => Some(TlsVersions::Tls13),
            ["1.2"] => Some(TlsVersions::Tls12),
            _ => None,
        }
    }

    fn write(value: &TlsVersions) -> Option<String> {
        Some(
            match value {
                TlsVersions::Tls12And13 => "[\"1.2\", \"1.3\"]",
                TlsVersions::Tls13 => "[\"1.3\"]",
                TlsVersions::Tls12 => "[\"1.2\"]",
            }
            .to_owned(),
        )
    }
}
scalar!(Versions => TlsVersions);

/// Ways to compress certificates.
pub(super) struct Compressors;

const COMPRESSORS: &str = "[] or [\"brotli\"]";

impl Scalar<Vec<&'static dyn CertCompressor>> for Compressors {
    const NAME: &'static str = COMPRESSORS;

    fn expected() -> String {
        COMPRESSORS.to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Vec<&'static dyn CertCompressor>> {
        match &texts(value)?[..] {
            [] => Some(Vec::new()),
            [name] if name == "brotli" => Some(vec![BROTLI]),
            _ => None,
        }
    }

    fn write(value: &Vec<&'static dyn CertCompressor>) -> Option<String> {
        // One of a program's own has no name here.
        let name =
            |c: &&dyn CertCompressor| (c.algorithm() == CertificateCompressionAlgorithm::Brotli).then_some("brotli");
        Some(format!("{:?}", value.iter().map(name).collect::<Option<Vec<_>>>()?))
    }
}
scalar!(Compressors => Vec<&'static dyn CertCompressor>);

/// Where workers run.
pub(super) struct Workers;

impl Scalar<Placement> for Workers {
    const NAME: &'static str = "\"shared-core\" or number";

    fn expected() -> String {
        "\"shared-core\", or how many worker threads, at least 1".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Placement> {
        if value.as_str() == Some("shared-core") {
            return Some(Placement::SharedCore);
        }
        let threads = usize::try_from(integer(value)?).ok()?;
        (threads > 0).then_some(Placement::Threads(threads))
    }

    fn write(value: &Placement) -> Option<String> {
        Some(match value {
            Placement::SharedCore => "\"shared-core\"".to_owned(),
            Placement::Threads(n) => n.to_string(),
        })
    }
}
scalar!(Workers => Placement);

/// Which cores the shards are pinned to.
pub(super) struct Pinning;

impl Scalar<Pin> for Pinning {
    const NAME: &'static str = "\"auto\", \"off\" or list of cores";

    fn expected() -> String {
        "\"auto\", \"off\", or a list of cores such as [0, 2]".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Pin> {
        match value {
            DeValue::String(text) if text == "auto" => Some(Pin::Auto),
            DeValue::String(text) if text == OFF => Some(Pin::Off),
            DeValue::Array(cores) if !cores.is_empty() => {
                let cores = cores.iter().map(|core| usize::try_from(integer(core.get_ref())?).ok());
                cores.collect::<Option<_>>().map(Pin::Cores)
            }
            _ => None,
        }
    }

    fn write(value: &Pin) -> Option<String> {
        Some(match value {
            Pin::Auto => "\"auto\"".to_owned(),
            Pin::Off => "\"off\"".to_owned(),
            Pin::Cores(cores) => format!("{cores:?}"),
        })
    }
}
scalar!(Pinning => Pin);

/// The networks of trusted proxies, or `"off"`.
pub(super) struct Proxies;

impl Scalar<Option<ProxyProtocol>> for Proxies {
    const NAME: &'static str = "list of networks or \"off\"";

    fn expected() -> String {
        "\"off\", or a list of networks such as [\"10.0.0.0/8\", \"192.0.2.7\"]".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Option<ProxyProtocol>> {
        if value.as_str() == Some(OFF) {
            return Some(None);
        }
        let network = |text: &String| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let networks: Option<Vec<IpNet>> = texts(value)?.iter().map(network).collect();
        networks.map(|networks| Some(ProxyProtocol::from_sources(networks)))
    }

    fn write(value: &Option<ProxyProtocol>) -> Option<String> {
        Some(match value {
            Some(proxies) => {
                let networks: Vec<String> = proxies.sources().iter().map(ToString::to_string).collect();
                format!("{networks:?}")
            }
            None => format!("\"{OFF}\""),
        })
    }
}
scalar!(Proxies => Option<ProxyProtocol>);

/// A list of texts.
pub(super) struct Texts;

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.get_ref().as_str().map(str::to_owned)).collect()
}

impl Scalar<Vec<String>> for Texts {
    const NAME: &'static str = "list of texts";

    fn expected() -> String {
        "a list of texts such as [\"one\", \"two\"]".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Vec<String>> {
        texts(value)
    }

    fn write(value: &Vec<String>) -> Option<String> {
        Some(format!("{value:?}"))
    }
}
scalar!(Texts => Vec<String>);

/// Which pages may open WebSockets.
pub(super) struct OriginList;

impl Scalar<Origins> for OriginList {
    const NAME: &'static str = "\"any\", \"same-host\" or list of origins";

    fn expected() -> String {
        "\"any\", \"same-host\", or a list of origins such as [\"https://example.com\"]".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Origins> {
        match value {
            DeValue::String(text) if text == "any" => Some(Origins::Any),
            DeValue::String(text) if text == "same-host" => Some(Origins::SameHost),
            _ => texts(value).map(Origins::List),
        }
    }

    fn write(value: &Origins) -> Option<String> {
        Some(match value {
            Origins::Any => "\"any\"".to_owned(),
            Origins::SameHost => "\"same-host\"".to_owned(),
            Origins::List(list) => format!("{list:?}"),
        })
    }
}
scalar!(OriginList => Origins);
