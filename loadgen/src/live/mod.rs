//! The live view on a terminal. A thread of its own draws and listens to the keyboard, so that neither waits for the
//! run, nor the run for a slow terminal.

mod board;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::progress::{Status, View};
use crate::series::Point;
use board::Board;

/// How long a key may wait.
const TICK: Duration = Duration::from_millis(50);
/// What a shell reports after Ctrl-C.
const INTERRUPTED_STATUS: i32 = 130;

/// Shows a run on the whole terminal until it ends; the terminal is then as it was. `q` and Ctrl-C end the run with the
/// figures so far; a second time they end the process.
#[derive(Debug)]
pub struct Live {
    tell: Option<Sender<News>>,
    thread: Option<JoinHandle<()>>,
}

enum News {
    Begins(String),
    Status(Status),
    Interval(Box<Point>),
}

impl Live {
    /// Takes the terminal. Should the process panic, the terminal is given back first.
    ///
    /// # Errors
    /// stdout is no terminal that can be drawn on.
    pub fn new(interrupted: &Arc<AtomicBool>) -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let (tell, news) = channel();
        let interrupted = Arc::clone(interrupted);
        let body = move || {
            show(terminal, &news, &interrupted);
            ratatui::restore();
        };
        match std::thread::Builder::new().name("live view".to_owned()).spawn(body) {
            Ok(thread) => Ok(Self { tell: Some(tell), thread: Some(thread) }),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }

    fn tell(&self, news: News) {
        if let Some(tell) = &self.tell {
            // A view that has failed shows nothing more; the run goes on.
            let _ = tell.send(news);
        }
    }

    fn close(&mut self) {
        self.tell = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported already, and the terminal given back.
            let _ = thread.join();
        }
    }
}

impl View for Live {
    fn begins(&mut self, line: &str) {
        self.tell(News::Begins(line.to_owned()));
    }

    fn shows(&mut self, status: &Status) {
        self.tell(News::Status(*status));
    }

    fn interval(&mut self, _: usize, point: &Point) {
        self.tell(News::Interval(Box::new(point.clone())));
    }

    fn ends(&mut self) {
        self.close();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}

/// Until nothing more is told, or the terminal fails.
fn show(mut terminal: DefaultTerminal, news: &Receiver<News>, interrupted: &AtomicBool) {
    let mut board = Board::default();
    let mut stale = true;
    loop {
        if stale && terminal.draw(|frame| board.draw(frame)).is_err() {
            return;
        }
        stale = true;
        match news.recv_timeout(TICK) {
            Ok(News::Begins(line)) => board.begins(line),
            Ok(News::Status(status)) => board.status(&status),
            Ok(News::Interval(point)) => board.interval(&point),
            Err(RecvTimeoutError::Timeout) => stale = false,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        match keys() {
            Ok(Pressed::End) if interrupted.swap(true, Ordering::Relaxed) => {
                ratatui::restore();
                std::process::exit(INTERRUPTED_STATUS);
            }
            Ok(Pressed::End) => {
                board.ending();
                stale = true;
            }
            Ok(Pressed::Resize) => stale = true,
            Ok(Pressed::Nothing) => {}
            Err(_) => return,
        }
    }
}

enum Pressed {
    Nothing,
    Resize,
    End,
}

/// Takes all that was pressed since.
fn keys() -> io::Result<Pressed> {
    let mut pressed = Pressed::Nothing;
    while event::poll(Duration::ZERO)? {
        match event::read()? {
            Event::Key(key) if ends(&key) => return Ok(Pressed::End),
            Event::Resize(..) => pressed = Pressed::Resize,
            _ => {}
        }
    }
    Ok(pressed)
}

/// In raw mode Ctrl-C is a key and no signal.
fn ends(key: &KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (control_c || key.code == KeyCode::Char('q'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_control_c_end_the_run_and_nothing_else_does() {
        assert!(ends(&KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(ends(&KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!ends(&KeyEvent::new(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!ends(&KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)));
    }
}
