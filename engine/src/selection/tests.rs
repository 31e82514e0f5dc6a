use proptest::prelude::*;
use rustls::AlertDescription;

use super::*;
use crate::handshake::hello::testing::{alpn, message, records};
use crate::handshake::hello::{Hello, HelloReader};

/// A ClientHello that offers these IDs; `None`: without ALPN.
struct Client(Vec<u8>, Hello);

impl Client {
    fn new<T: AsRef<[u8]>>(offers: Option<&[T]>) -> Self {
        let extensions: Vec<_> = offers.into_iter().map(alpn).collect();
        let input = records(&message(&extensions), 1 << 14);
        let hello = HelloReader::new().read(&input, 1 << 16).unwrap().unwrap();
        Self(input, hello)
    }

    fn offering(offers: &[&str]) -> Self {
        Self::new(Some(offers))
    }

    fn silent() -> Self {
        Self::new::<&str>(None)
    }

    fn selected_by(&self, table: &Table) -> Result<Decision, Refusal> {
        table.select(&self.1.view(&self.0, None))
    }
}

fn web() -> TableBuilder {
    Table::builder().protocol("h2").protocol("http/1.1")
}

fn decided(protocol: u8, alpn: bool) -> Result<Decision, Refusal> {
    Ok(Decision { protocol, alpn })
}

fn callback(answer: Selection) -> Policy {
    Policy::Callback(Arc::new(move |_| answer.clone()))
}

#[test]
fn the_server_prefers_unless_told_otherwise() {
    let client = Client::offering(&["http/1.1", "h2"]);
    assert_eq!(client.selected_by(&web().build().unwrap()), decided(0, true));
    assert_eq!(client.selected_by(&web().policy(Policy::ClientPreference).build().unwrap()), decided(1, true));
}

#[test]
fn nothing_in_common() {
    let client = Client::offering(&["spdy/3", "\n\n"]);
    assert_eq!(client.selected_by(&web().build().unwrap()), Err(Refusal::NoApplicationProtocol));
    assert_eq!(client.selected_by(&web().fallback(1).build().unwrap()), decided(1, false));
    let without = web().without_alpn(WithoutAlpn::Protocol(1)).build().unwrap();
    assert_eq!(client.selected_by(&without), Err(Refusal::NoApplicationProtocol));
}

#[test]
fn without_the_extension() {
    assert_eq!(Client::silent().selected_by(&web().build().unwrap()), Err(Refusal::NoApplicationProtocol));
    let table = web().without_alpn(WithoutAlpn::Protocol(1)).build().unwrap();
    assert_eq!(Client::silent().selected_by(&table), decided(1, false));
    assert_eq!(Client::silent().selected_by(&web().fallback(1).build().unwrap()), Err(Refusal::NoApplicationProtocol));
}

#[test]
fn the_callback_decides() {
    let client = Client::offering(&["http/1.1", "x"]);
    let by = |answer| client.selected_by(&web().policy(callback(answer)).build().unwrap());
    assert_eq!(by(Selection::protocol("http/1.1")), decided(1, true));
    assert_eq!(by(Selection::protocol("h2")), decided(0, false));
    assert_eq!(by(Selection::Protocol(b"x".to_vec().into())), Err(Refusal::UnregisteredProtocol));
    let alert = AlertDescription::AccessDenied;
    assert_eq!(by(Selection::Refuse(alert)), Err(Refusal::ByCallback(alert)));
    assert_eq!(by(Selection::Table), decided(1, true));
    assert_eq!(Refusal::UnregisteredProtocol.plaintext_alert(), Some(AlertDescription::InternalError));
}

#[test]
fn the_callback_sees_the_hello() {
    let policy = Policy::Callback(Arc::new(|hello| match hello.alpn_protocols().last() {
        Some(last) => Selection::Protocol(last.to_vec().into()),
        None => Selection::protocol("h2"),
    }));
    let table = web().policy(policy).build().unwrap();
    assert_eq!(Client::offering(&["h2", "http/1.1"]).selected_by(&table), decided(1, true));
    assert_eq!(Client::silent().selected_by(&table), decided(0, false));
}

#[test]
fn what_is_wrong_with_a_registry() {
    let error = |builder: TableBuilder| builder.build().unwrap_err().to_string();
    assert!(error(Table::builder()).starts_with("no protocol is registered"));
    let many = (0..17).fold(Table::builder(), |builder, i| builder.protocol(format!("p{i}")));
    assert_eq!(error(many), "17 protocols are registered; at most 16 can be");
    assert_eq!(error(web().protocol("")), "the ALPN ID of protocol 3 is empty");
    assert_eq!(error(web().protocol([b'x'; 256])), "the ALPN ID of protocol 3 is 256 bytes long; at most 255 fit");
    let twice = "protocols 1 and 3 have the same ALPN ID \"h2\"; remove one";
    assert_eq!(error(web().protocol("h2")), twice);
    assert_eq!(error(web().fallback(2)), "the fallback is protocol 3, but only 2 are registered");
    let unknown = web().without_alpn(WithoutAlpn::Protocol(usize::MAX));
    assert!(error(unknown).starts_with("the protocol without ALPN is protocol"));
    assert_eq!(SelectionError::NoProtocol.culprit(), crate::error::Culprit::Config);
}

#[test]
fn indexes_are_those_of_registration() {
    let table = web().protocol([b'x'; 255]).build().unwrap();
    let ids: Vec<_> = table.protocols().iter().map(|id| table.index_of(id)).collect();
    assert_eq!(ids, [Some(0), Some(1), Some(2)]);
    assert_eq!(table.index_of(b"h3"), None);
    let client = Client::offering(&["x", "http/1.1", "h2", "h2"]);
    assert_eq!(table.offered(&client.1.view(&client.0, None)), 0b11);
}

/// RFC 7301 section 3.2 word by word.
fn plainly(
    registered: &[Vec<u8>],
    offers: Option<&[Vec<u8>]>,
    policy: &Policy,
    fallback: Option<usize>,
    without_alpn: WithoutAlpn,
) -> Result<Decision, Refusal> {
    let index = |id: &[u8]| registered.iter().position(|ours| ours == id);
    let offered = offers.unwrap_or_default();
    let by_server = || registered.iter().position(|ours| offered.contains(ours));
    let chosen = match policy {
        Policy::ServerPreference => by_server(),
        Policy::ClientPreference => offered.iter().find_map(|id| index(id)),
        // The callbacks of these tests do not look at the view.
        Policy::Callback(callback) => {
            let client = Client::silent();
            match callback(&client.1.view(&client.0, None)) {
                Selection::Protocol(id) => {
                    let Some(protocol) = index(&id) else {
                        return Err(Refusal::UnregisteredProtocol);
                    };
                    let alpn = offered.iter().any(|offer| **offer == *id);
                    return Ok(Decision { protocol: u8::try_from(protocol).unwrap(), alpn });
                }
                Selection::Refuse(alert) => return Err(Refusal::ByCallback(alert)),
                Selection::Table => by_server(),
            }
        }
    };
    let (protocol, alpn) = match (chosen, offers, fallback, without_alpn) {
        (Some(protocol), ..) => (protocol, true),
        (None, Some(_), Some(protocol), _) | (None, None, _, WithoutAlpn::Protocol(protocol)) => (protocol, false),
        _ => return Err(Refusal::NoApplicationProtocol),
    };
    Ok(Decision { protocol: u8::try_from(protocol).unwrap(), alpn })
}

/// IDs from a small alphabet, so that they meet, some long, some GREASE (RFC 8701).
fn id() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(0_u8..3, 1..4),
        1 => prop::collection::vec(0_u8..2, 7..19),
        1 => (0_u8..16).prop_map(|n| vec![n << 4 | 0x0a; 2]),
        1 => (0_u8..2).prop_map(|last| [&[b'x'; 254][..], &[last]].concat()),
        1 => prop_oneof![Just(b"h2".to_vec()), Just(b"http/1.1".to_vec()), Just(b"acme-tls/1".to_vec())],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn selects_as_the_plain_way_does(
        mut registered in prop::collection::vec(id(), 1..=16),
        strangers in prop::collection::vec(id(), 0..6),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        silent in prop::bool::weighted(0.2),
        policy in 0..6,
        fallback in prop::option::of(any::<prop::sample::Index>()),
        without_alpn in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut seen = std::collections::HashSet::new();
        registered.retain(|id| seen.insert(id.clone()));
        let mut offers: Vec<_> = picks.iter().map(|pick| pick.get(&registered).clone()).collect();
        offers.extend(strangers.iter().cloned());
        let half = offers.len() / 2;
        offers.rotate_left(half);
        if offers.is_empty() {
            offers.push(b"h2".to_vec());
        }
        let offers = (!silent).then_some(offers.as_slice());
        let fallback = fallback.map(|pick| pick.index(registered.len()));
        let without_alpn =
            without_alpn.map_or(WithoutAlpn::Refuse, |pick| WithoutAlpn::Protocol(pick.index(registered.len())));
        let policy = match policy {
            0 | 1 => Policy::ServerPreference,
            2 => Policy::ClientPreference,
            3 => callback(Selection::Table),
            4 => callback(Selection::Protocol(strangers.first().unwrap_or(&registered[0]).clone().into())),
            _ => callback(Selection::Refuse(AlertDescription::UnrecognisedName)),
        };
        let mut builder = Table::builder().policy(policy.clone()).without_alpn(without_alpn);
        builder = registered.iter().fold(builder, |builder, id| builder.protocol(id.clone()));
        if let Some(fallback) = fallback {
            builder = builder.fallback(fallback);
        }
        let table = builder.build().unwrap();
        let expected = plainly(&registered, offers, &policy, fallback, without_alpn);
        prop_assert_eq!(Client::new(offers).selected_by(&table), expected);
    }
}
