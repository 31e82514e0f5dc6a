//! What the live view shows. It knows nothing of the terminal that it is drawn on.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Wrap};

use crate::duration::Human;
use crate::progress::Status;
use crate::report::{grouped, grouped_rate};
use crate::series::Point;

/// Points of a chart. Met: the oldest goes.
const POINTS_MAX: usize = 300;
/// Rows of what is measured. Met: the rest of it is cut off.
const OPENING_ROWS_MAX: usize = 4;

/// What is known of a run that goes on.
#[derive(Debug, Default)]
pub(super) struct Board {
    opening: String,
    status: Option<Status>,
    rates: VecDeque<(f64, f64)>,
    p50: VecDeque<(f64, f64)>,
    p99: VecDeque<(f64, f64)>,
    latency: Option<[Option<Duration>; 4]>,
    ending: bool,
}

impl Board {
    pub(super) fn begins(&mut self, line: String) {
        self.opening = line;
    }

    pub(super) fn status(&mut self, status: &Status) {
        self.status = Some(*status);
        push(&mut self.rates, (status.elapsed.as_secs_f64(), status.rate));
    }

    pub(super) fn interval(&mut self, point: &Point) {
        let latency = [point.quantile(0.5), point.quantile(0.9), point.quantile(0.99), point.max()];
        let at = self.status.map_or(0.0, |s| s.elapsed.as_secs_f64());
        for (line, value) in [(&mut self.p50, latency[0]), (&mut self.p99, latency[2])] {
            if let Some(value) = value {
                push(line, (at, value.as_secs_f64() * 1e3));
            }
        }
        self.latency = Some(latency);
    }

    pub(super) const fn ending(&mut self) {
        self.ending = true;
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let width = usize::from(frame.area().width).max(1);
        // Words do not fill a line to its end.
        let opening = self.opening.len().div_ceil(width.saturating_sub(10).max(1)).clamp(2, OPENING_ROWS_MAX);
        let rows = [
            Constraint::Length(u16::try_from(opening).unwrap_or(2)),
            Constraint::Length(5),
            Constraint::Fill(1),
            Constraint::Length(1),
        ];
        let [head, figures, charts, foot] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(Paragraph::new(self.opening.as_str()).wrap(Wrap { trim: true }), head);
        frame.render_widget(Paragraph::new(self.figures()).block(Block::bordered()), figures);
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(charts);
        let rate = [(Color::Cyan, &self.rates)];
        draw_chart(frame, left, " handshakes per second ", &rate, grouped_rate);
        let latency = [(Color::Magenta, &self.p99), (Color::Green, &self.p50)];
        draw_chart(frame, right, " latency, p99 above p50 (ms) ", &latency, |v| {
            if v < 10.0 { format!("{v:.1}") } else { format!("{v:.0}") }
        });
        let text = if self.ending {
            " ending: waits for handshakes under way; q or Ctrl-C again ends at once"
        } else {
            " q or Ctrl-C ends the run with the figures so far"
        };
        frame.render_widget(Paragraph::new(text).dim(), foot);
    }

    fn figures(&self) -> Vec<Line<'_>> {
        let Some(status) = self.status else { return vec![Line::from(" begins ...")] };
        let failures = Span::from(format!("{:>14}", grouped(status.failures)));
        let failures = if status.failures > 0 { failures.red().bold() } else { failures };
        let latency =
            |i: usize| self.latency.and_then(|l| l[i]).map_or_else(|| "-".to_owned(), |d| Human(d).to_string());
        let phase = if status.warming_up { "  (warming up)" } else { "" };
        vec![
            Line::from(vec![
                Span::from(" rate     "),
                Span::from(format!("{:>12}/s", grouped_rate(status.rate))).bold(),
                Span::from(format!("     after {:.0} s{phase}", status.elapsed.as_secs_f64())),
            ]),
            Line::from(vec![
                Span::from(" in all   "),
                Span::from(format!("{:>14}", grouped(status.handshakes))),
                Span::from("     errors"),
                failures,
            ]),
            Line::from(format!(
                " latency  p50 {:>9}   p90 {:>9}   p99 {:>9}   max {:>9}",
                latency(0),
                latency(1),
                latency(2),
                latency(3)
            )),
        ]
    }
}

fn push(line: &mut VecDeque<(f64, f64)>, point: (f64, f64)) {
    if line.len() == POINTS_MAX {
        line.pop_front();
    }
    line.push_back(point);
}

/// The smallest round number that is not below `value`, of those whose half is round too.
fn round_above(value: f64) -> f64 {
    let unit = 10.0_f64.powf(value.max(1e-3).log10().floor());
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0].map(|n| n * unit).into_iter().find(|n| *n >= value).unwrap_or(10.0 * unit)
}

fn draw_chart(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    lines: &[(Color, &VecDeque<(f64, f64)>)],
    text: fn(f64) -> String,
) {
    let block = Block::bordered().title(title.to_owned());
    let all = || lines.iter().flat_map(|(_, line)| line.iter());
    let (Some(first), Some(last)) = (all().map(|(x, _)| *x).reduce(f64::min), all().map(|(x, _)| *x).reduce(f64::max))
    else {
        frame.render_widget(block, area);
        return;
    };
    let top = round_above(all().map(|(_, y)| *y).fold(0.0, f64::max) * 1.05);
    let points: Vec<Vec<(f64, f64)>> = lines.iter().map(|(_, line)| line.iter().copied().collect()).collect();
    let datasets = lines.iter().zip(&points).map(|((color, _), points)| {
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::default().fg(*color))
            .data(points)
    });
    let x = Axis::default()
        .bounds([first, last.max(first + 1.0)])
        .labels([format!("{first:.0} s"), format!("{last:.0} s")]);
    let y = Axis::default().bounds([0.0, top]).labels(["0".to_owned(), text(top / 2.0), text(top)]);
    frame.render_widget(Chart::new(datasets.collect()).block(block).x_axis(x).y_axis(y).legend_position(None), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::series::Series;

    fn drawn(board: &Board, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| board.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer
            .content()
            .chunks(usize::from(width))
            .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() + "\n")
            .collect()
    }

    fn busy() -> Board {
        let mut board = Board::default();
        board.begins("measuring localhost:8443 for 10s: 64 connections".to_owned());
        let mut series = Series::default();
        for second in 1..=400_u64 {
            let elapsed = Duration::from_secs(second);
            let rate = 8000.0 + second as f64;
            board.status(&Status { elapsed, handshakes: 8000 * second, failures: 3, rate, warming_up: second == 1 });
            series.finished(Duration::from_secs(second), Duration::from_millis(5));
            board.interval(series.points().last().unwrap());
        }
        board
    }

    #[test]
    fn it_shows_rate_errors_latency_and_charts() {
        let text = drawn(&busy(), 100, 30);
        for part in [
            "localhost:8443",
            "8,400/s",
            "3,200,000",
            "errors             3",
            "p99   5.0",
            "handshakes per second",
            "q or Ctrl-C",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "a chart in Braille:\n{text}");
        assert!(!text.contains("warming up"));
    }

    #[test]
    fn it_fits_any_terminal_and_any_moment() {
        let mut ending = busy();
        ending.ending();
        assert!(drawn(&ending, 100, 30).contains("ending"));
        for board in [Board::default(), busy()] {
            for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 80)] {
                drawn(&board, width, height);
            }
        }
    }

    #[test]
    fn a_chart_ends_at_a_round_number() {
        assert_eq!(
            [0.9, 1.0, 968.0, 159.9, 61.0, 8.1].map(round_above),
            [0.9_f64.ceil(), 1.0, 1000.0, 200.0, 80.0, 10.0]
        );
        assert!(round_above(0.0) > 0.0);
        assert!(drawn(&busy(), 100, 30).contains("10,000"));
    }

    #[test]
    fn a_narrow_terminal_still_shows_all_that_is_measured() {
        let mut board = busy();
        board.begins(format!("measuring {}the end", "some more words ".repeat(13)));
        assert!(drawn(&board, 80, 24).contains("the end"));
    }

    #[test]
    fn it_keeps_a_bounded_past() {
        assert_eq!(busy().rates.len(), POINTS_MAX);
    }
}
