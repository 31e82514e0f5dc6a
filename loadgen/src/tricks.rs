//! Packets and system calls that this client spares where a plain one would not. Each is an option, and every report
//! names those in force, because what a client spares itself it spares the server too.

use clap::ValueEnum;

use crate::error::UsageError;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Trick {
    /// The ACK of the server's SYN goes with the ClientHello (TCP_QUICKACK off before connecting): a segment fewer
    AckWithHello,
    /// The ClientHello is written right behind connect, not once the poller says that the connection is up: over a
    /// short way it is, and that spares a wake-up
    HelloAtOnce,
    /// What is said last and FIN share a segment (MSG_MORE): a segment fewer
    FinWithLast,
    /// None of these, as a plain client has it
    None,
}

impl Trick {
    const ALL: [Self; 3] = [Self::AckWithHello, Self::HelloAtOnce, Self::FinWithLast];

    /// As it is written on the command line.
    const fn name(self) -> &'static str {
        match self {
            Self::AckWithHello => "ack-with-hello",
            Self::HelloAtOnce => "hello-at-once",
            Self::FinWithLast => "fin-with-last",
            Self::None => "none",
        }
    }
}

/// Those in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tricks {
    /// [`Trick::AckWithHello`].
    pub ack_with_hello: bool,
    /// [`Trick::HelloAtOnce`].
    pub hello_at_once: bool,
    /// [`Trick::FinWithLast`].
    pub fin_with_last: bool,
}

impl Tricks {
    /// Those of a command line. `burst`: each ClientHello waits for the connections of all others, so none goes at once.
    ///
    /// # Errors
    /// `none` is one of several, or one was asked for that `burst` excludes.
    pub fn new(asked: Option<&[Trick]>, burst: bool) -> Result<Self, UsageError> {
        let has = |trick| asked.is_none_or(|asked| asked.contains(&trick));
        match asked {
            Some(asked) if asked.len() > 1 && asked.contains(&Trick::None) => {
                Err(UsageError::OptionMismatch("--tricks none stands alone"))
            }
            Some(asked) if burst && asked.contains(&Trick::HelloAtOnce) => Err(UsageError::OptionMismatch(
                "--tricks hello-at-once and --burst exclude each other: in rounds each ClientHello waits for the \
                 connections of all others",
            )),
            _ => Ok(Self {
                ack_with_hello: has(Trick::AckWithHello),
                hello_at_once: has(Trick::HelloAtOnce) && !burst,
                fin_with_last: has(Trick::FinWithLast),
            }),
        }
    }

    /// Their names, as on the command line.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let has = |trick: &Trick| match trick {
            Trick::AckWithHello => self.ack_with_hello,
            Trick::HelloAtOnce => self.hello_at_once,
            Trick::FinWithLast => self.fin_with_last,
            Trick::None => false,
        };
        Trick::ALL.into_iter().filter(has).map(Trick::name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_in_force_unless_others_are_asked_for() {
        let names = |asked: Option<&[Trick]>, burst| Tricks::new(asked, burst).unwrap().names();
        assert_eq!(names(None, false), ["ack-with-hello", "hello-at-once", "fin-with-last"]);
        assert_eq!(names(None, true), ["ack-with-hello", "fin-with-last"]);
        assert_eq!(names(Some(&[Trick::FinWithLast]), false), ["fin-with-last"]);
        assert_eq!(names(Some(&[Trick::None]), false), [""; 0]);
        assert!(Tricks::new(Some(&[Trick::None, Trick::FinWithLast]), false).is_err());
        assert!(Tricks::new(Some(&[Trick::HelloAtOnce]), true).is_err());
    }

    #[test]
    fn a_name_in_a_report_is_the_name_on_the_command_line() {
        for trick in Trick::value_variants() {
            let value = trick.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), trick.name());
        }
    }
}
