//! A line chart as inline SVG: axes with units, a grid, a legend, values on hover; no script.

use std::fmt::Write;

use super::escape;
use super::scale::Scale;
use crate::output::written;

/// A line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    /// Position in the palette of the page.
    pub(super) color: usize,
    /// Values from left to right; `None` interrupts the line.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) lines: Vec<Line>,
    /// What a point says on hover.
    pub(super) text: fn(f64, f64) -> String,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 52.0;
/// Points that get a mark with its value; more would hide the line.
const MARKS_MAX: usize = 130;
const LEGEND_STEP: f64 = 126.0;
/// With more points than this, marks show only under the pointer.
const MARKS_VISIBLE: usize = 40;

impl Chart<'_> {
    pub(super) fn svg(&self) -> String {
        written(|out| self.write(out))
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        writeln!(
            out,
            "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        )?;
        writeln!(out, "<text class=\"title\" x=\"{LEFT}\" y=\"16\">{}</text>", escape(self.title))?;
        for (value, text) in self.y.ticks() {
            let y = bottom - self.y.at(value) * (bottom - TOP);
            writeln!(out, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>")?;
            writeln!(
                out,
                "<text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(text)
            )?;
        }
        for (value, text) in self.x.ticks() {
            let x = self.place_x(value);
            writeln!(
                out,
                "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\"/>",
                bottom + 5.0
            )?;
            writeln!(out, "<text class=\"tick mid\" x=\"{x:.1}\" y=\"{}\">{}</text>", bottom + 19.0, escape(text))?;
        }
        writeln!(out, "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>")?;
        let middle = f64::midpoint(LEFT, right);
        writeln!(
            out,
            "<text class=\"label mid\" x=\"{middle}\" y=\"{}\">{}</text>",
            HEIGHT - 10.0,
            escape(self.x_label)
        )?;
        let middle = f64::midpoint(TOP, bottom);
        writeln!(
            out,
            "<text class=\"label mid\" transform=\"translate(14 {middle}) rotate(-90)\">{}</text>",
            escape(self.y_label)
        )?;
        // The first line matters most, so it is drawn over the others.
        for line in self.lines.iter().rev() {
            self.line(out, line)?;
        }
        self.legend(out)?;
        writeln!(out, "</svg></figure>")
    }

    fn place_x(&self, value: f64) -> f64 {
        LEFT + self.x.at(value) * (WIDTH - RIGHT - LEFT)
    }

    fn line(&self, out: &mut String, line: &Line) -> std::fmt::Result {
        let bottom = HEIGHT - BOTTOM;
        let mut path = String::new();
        let mut marks = String::new();
        let mut pen_down = false;
        let ghost = if line.points.len() > MARKS_VISIBLE { " ghost" } else { "" };
        for (x, y) in &line.points {
            let Some(y) = y else {
                pen_down = false;
                continue;
            };
            let (px, py) = (self.place_x(*x), bottom - self.y.at(*y) * (bottom - TOP));
            write!(path, "{}{px:.1} {py:.1}", if pen_down { "L" } else { "M" })?;
            pen_down = true;
            let name = escape(&line.name);
            let value = escape(&(self.text)(*x, *y));
            writeln!(
                marks,
                "<circle class=\"c{}{ghost}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"2.5\"><title>{name}: {value}</title></circle>",
                line.color
            )?;
        }
        writeln!(out, "<path class=\"line c{}\" d=\"{path}\"/>", line.color)?;
        if line.points.len() <= MARKS_MAX { out.write_str(&marks) } else { Ok(()) }
    }

    fn legend(&self, out: &mut String) -> std::fmt::Result {
        if self.lines.len() < 2 {
            return Ok(());
        }
        for (i, line) in self.lines.iter().enumerate() {
            let x = WIDTH - RIGHT - LEGEND_STEP * (self.lines.len() - i) as f64;
            writeln!(out, "<line class=\"line c{}\" x1=\"{x}\" y1=\"12\" x2=\"{}\" y2=\"12\"/>", line.color, x + 18.0)?;
            writeln!(out, "<text class=\"tick\" x=\"{}\" y=\"16\">{}</text>", x + 23.0, escape(&line.name))?;
        }
        Ok(())
    }
}
