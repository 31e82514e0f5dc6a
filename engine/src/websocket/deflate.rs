//! What two sides agree on for permessage-deflate (RFC 7692 section 7.1).

use std::fmt;

use hyper::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

use super::options::Deflate;

const NAME: &str = "permessage-deflate";
/// No library can compress with the window of 256 bytes that 8 would be.
const WINDOW_BITS_MIN: u8 = 9;
const WINDOW_BITS_MAX: u8 = 15;

/// The parameters of one offer, or of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// In an offer it may have no value.
    client_max_window_bits: Option<Option<u8>>,
}

/// What a server answers to what a client offers: the first offer that it can keep to; `None` for no compression.
pub(super) fn answer(headers: &HeaderMap, ours: &Deflate) -> Option<Parameters> {
    let offers = extensions(headers).filter_map(|(name, parameters)| {
        if name.eq_ignore_ascii_case(NAME) { Parameters::parse(parameters) } else { None }
    });
    offers.filter_map(|offer| offer.answered(ours)).next()
}

/// What a client offers.
pub(super) fn offer(ours: &Deflate) -> Parameters {
    let less = |bits: u8| Some(window(bits)).filter(|&bits| bits < WINDOW_BITS_MAX);
    Parameters {
        server_no_context_takeover: ours.server_no_context_takeover,
        client_no_context_takeover: ours.client_no_context_takeover,
        server_max_window_bits: less(ours.server_window_bits),
        client_max_window_bits: Some(less(ours.client_window_bits)),
    }
}

/// What a client is to do after a server's answer: `Err` when it breaks RFC 7692 section 7.1 or RFC 6455 section 4.1,
/// as an extension does that was not offered.
pub(super) fn agreed(headers: &HeaderMap, ours: Option<&Deflate>) -> Result<Option<Parameters>, ()> {
    let mut found = extensions(headers);
    let Some((name, parameters)) = found.next() else { return Ok(None) };
    let ours = ours.filter(|_| name.eq_ignore_ascii_case(NAME) && found.next().is_none()).ok_or(())?;
    let answer = Parameters::parse(parameters).ok_or(())?;
    let offered = offer(ours);
    let client_bits = match answer.client_max_window_bits {
        None => offered.client_max_window_bits.flatten(),
        Some(Some(bits)) if (WINDOW_BITS_MIN..=window(ours.client_window_bits)).contains(&bits) => Some(bits),
        Some(_) => return Err(()),
    };
    let server_fits = offered.server_max_window_bits.is_none_or(|most| {
        let bits = answer.server_max_window_bits;
        bits.is_some_and(|bits| bits <= most)
    });
    let takeover_fits = answer.server_no_context_takeover || !offered.server_no_context_takeover;
    if !server_fits || !takeover_fits {
        return Err(());
    }
    Ok(Some(Parameters {
        // A client may always start anew (section 7.1.1.2).
        client_no_context_takeover: answer.client_no_context_takeover || ours.client_no_context_takeover,
        client_max_window_bits: client_bits.map(Some),
        ..answer
    }))
}

impl Parameters {
    /// `None` for what a side must decline: parameters that are unknown, come twice, or have wrong values
    /// (section 7).
    fn parse<'a>(parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Option<Self> {
        let mut found = Self::default();
        for (name, value) in parameters {
            let new = match (name, value) {
                ("server_no_context_takeover", None) => !std::mem::replace(&mut found.server_no_context_takeover, true),
                ("client_no_context_takeover", None) => !std::mem::replace(&mut found.client_no_context_takeover, true),
                ("server_max_window_bits", Some(bits)) => {
                    found.server_max_window_bits.replace(window_bits(bits)?).is_none()
                }
                ("client_max_window_bits", None) => found.client_max_window_bits.replace(None).is_none(),
                ("client_max_window_bits", Some(bits)) => {
                    found.client_max_window_bits.replace(Some(window_bits(bits)?)).is_none()
                }
                _ => false,
            };
            if !new {
                return None;
            }
        }
        Some(found)
    }

    /// A server's answer to this offer; `None` when it cannot keep to it.
    fn answered(self, ours: &Deflate) -> Option<Self> {
        let own = window(ours.server_window_bits);
        let server_bits = self.server_max_window_bits.map_or(own, |most| most.min(own));
        if server_bits < WINDOW_BITS_MIN {
            return None;
        }
        // Only a client that speaks of its window may be told how large it can be (section 7.1.2.2).
        let client_bits = self.client_max_window_bits.map(|most| {
            let most = most.unwrap_or(WINDOW_BITS_MAX);
            most.min(window(ours.client_window_bits))
        });
        Some(Self {
            server_no_context_takeover: self.server_no_context_takeover || ours.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover || ours.client_no_context_takeover,
            server_max_window_bits: Some(server_bits)
                .filter(|&bits| bits < WINDOW_BITS_MAX || self.server_max_window_bits.is_some()),
            client_max_window_bits: client_bits.filter(|&bits| bits < WINDOW_BITS_MAX).map(Some),
        })
    }
}

/// As the header field Sec-WebSocket-Extensions has it.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        match self.client_max_window_bits {
            Some(Some(bits)) => write!(f, "; client_max_window_bits={bits}"),
            Some(None) => f.write_str("; client_max_window_bits"),
            None => Ok(()),
        }
    }
}

fn window(bits: u8) -> u8 {
    bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX)
}

/// 8 to 15, without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    value.parse().ok().filter(|bits| (8..=WINDOW_BITS_MAX).contains(bits) && !value.starts_with(['0', '+']))
}

/// The extensions of all header fields with their parameters (RFC 6455 section 9.1). No value that a parameter here
/// may have holds a comma or a semicolon, so it does not matter that quotes are not looked for.
fn extensions(headers: &HeaderMap) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, Option<&str>)>)> {
    let fields = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).into_iter().filter_map(|value| value.to_str().ok());
    let extensions = fields.flat_map(|field| field.split(',')).map(str::trim).filter(|e| !e.is_empty());
    extensions.map(|extension| {
        let mut parts = extension.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters = parts.map(|parameter| match parameter.split_once('=') {
            Some((name, value)) => {
                let value = value.trim();
                let unquoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
                (name.trim(), Some(unquoted.unwrap_or(value)))
            }
            None => (parameter, None),
        });
        (name, parameters)
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn field(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(value).unwrap())])
    }

    fn answered(offer: &str, ours: &Deflate) -> Option<String> {
        answer(&field(offer), ours).map(|p| p.to_string())
    }

    #[test]
    fn server_answers_the_first_offer_that_it_can_keep_to() {
        let ours = Deflate::default();
        for (offer, expected) in [
            ("permessage-deflate", "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=10"),
            ("permessage-deflate; client_max_window_bits=8", "permessage-deflate; client_max_window_bits=8"),
            (
                "x-other; a=b, Permessage-Deflate; server_max_window_bits=\"12\"",
                "permessage-deflate; server_max_window_bits=12",
            ),
            // RFC 7692 section 7.1.3's example of several offers.
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover",
            ),
        ] {
            assert_eq!(answered(offer, &ours).as_deref(), Some(expected), "{offer}");
        }
    }

    #[test]
    fn offers_with_unknown_doubled_or_wrong_parameters_are_declined() {
        for offer in [
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; window=9",
            "permessage-deflate;",
            "permessage-bzip2",
            "",
        ] {
            assert_eq!(answered(offer, &Deflate::default()), None, "{offer}");
        }
    }

    #[test]
    fn server_asks_for_a_smaller_window_only_of_clients_that_speak_of_it() {
        let ours = Deflate { client_window_bits: 10, server_window_bits: 11, ..Deflate::without_context_takeover() };
        let rest =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11";
        assert_eq!(answered("permessage-deflate", &ours).as_deref(), Some(rest));
        let told = format!("{rest}; client_max_window_bits=10");
        assert_eq!(answered("permessage-deflate; client_max_window_bits", &ours), Some(told));
    }

    #[test]
    fn client_keeps_to_a_right_answer_and_refuses_any_other() {
        let ours = Deflate { server_window_bits: 12, server_no_context_takeover: true, ..Deflate::default() };
        let right =
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=9";
        assert_eq!(agreed(&field(right), Some(&ours)).unwrap().unwrap().to_string(), right);
        assert_eq!(agreed(&HeaderMap::new(), Some(&ours)), Ok(None));
        assert_eq!(agreed(&field(right), None), Err(()), "not asked for");
        for wrong in [
            "permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=13",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=8",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; new",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10, permessage-deflate",
            "x-other",
        ] {
            assert_eq!(agreed(&field(wrong), Some(&ours)), Err(()), "{wrong}");
        }
    }
}
