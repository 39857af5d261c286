//! One file with two panels, time and memory, on logarithmic axes.

use std::error::Error;
use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Growth, Line, Point};
use crate::row::Unit;

/// Pixels.
const SIZE: (u32, u32) = (1040, 400);

/// Ours first.
const COLOURS: [RGBColor; 3] = [RGBColor(0, 90, 181), RGBColor(220, 50, 32), RGBColor(90, 90, 90)];

type Drawn = Result<(), Box<dyn Error>>;

/// A panel: what is drawn, and how its figures are shown.
struct Panel<'a> {
    of: &'a str,
    title: &'a str,
    lines: Vec<(&'a str, Vec<(f64, f64)>)>,
    show: &'a dyn Fn(&f64) -> String,
}

/// Draws it.
///
/// # Errors
///
/// The file's.
pub fn draw(growth: &Growth, file: &Path) -> io::Result<()> {
    both(growth, file).map_err(|error| io::Error::other(error.to_string()))
}

fn both(growth: &Growth, file: &Path) -> Drawn {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    let figures = |figure: fn(&Point) -> Option<f64>| {
        let points = move |line: &Line| line.points.iter().filter_map(|at| Some((at.count, figure(at)?))).collect();
        let lines: Vec<(_, Vec<_>)> = growth.lines.iter().map(|line| (line.name, points(line))).collect();
        lines.into_iter().filter(|(_, points)| !points.is_empty()).collect()
    };
    let (times, memory) = (figures(|at| Some(at.seconds)), figures(|at| at.bytes));
    let seconds = |value: &f64| Unit::Seconds.show(*value).replace(".000", "");
    panel(&left, Panel { of: growth.of, title: growth.time, lines: times, show: &seconds })?;
    panel(&right, Panel { of: growth.of, title: growth.memory, lines: memory, show: &bytes })?;
    root.present()?;
    Ok(())
}

fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: Panel<'_>) -> Drawn {
    let points = || panel.lines.iter().flat_map(|(_, points)| points);
    let (xs, ys) = (around(points().map(|at| at.0)), around(points().map(|at| at.1)));
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(78)
        .build_cartesian_2d(xs.log_scale(), ys.log_scale())?;
    chart
        .configure_mesh()
        .x_desc(panel.of)
        .x_label_formatter(&|count| format!("{count:.0}"))
        .y_label_formatter(&panel.show)
        .light_line_style(BLACK.mix(0.06))
        .draw()?;
    for ((name, points), colour) in panel.lines.iter().zip(COLOURS) {
        let series = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
        let legend = move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2));
        chart.draw_series(series)?.label(*name).legend(legend);
    }
    let labels = &mut chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(BLACK.mix(0.2)).draw()?;
    Ok(())
}

/// From a little less than the least to a little more than the most.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    least / 1.5..most * 1.5
}

/// For people.
fn bytes(value: &f64) -> String {
    match *value {
        small if small < 1024.0 => format!("{small:.0} B"),
        some if some < 1_048_576.0 => format!("{:.0} KiB", some / 1024.0),
        many => format!("{:.0} MiB", many / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_both_panels_and_each_line() {
        let point = |count, bytes| Point { count, seconds: count / 1000.0, bytes };
        let ours = Line { name: "ours", points: vec![point(1.0, Some(2048.0)), point(10.0, Some(9e6))] };
        let bare = Line { name: "bare", points: vec![point(1.0, None), point(10.0, None)] };
        let growth = Growth { file: "f", of: "things", time: "until", memory: "held", lines: vec![ours, bare] };
        let folder = tempfile::TempDir::new().expect("a temporary directory can be made");
        let file = folder.path().join("f.svg");
        draw(&growth, &file).expect("it is drawn");
        let text = std::fs::read_to_string(&file).expect("it is there");
        let times = |word: &str| text.matches(word).count();
        assert_eq!((times("until"), times("held"), times("things")), (1, 1, 2), "{text}");
        // What was not measured of it is not drawn.
        assert_eq!((times("ours"), times("bare")), (2, 1), "{text}");
    }
}
