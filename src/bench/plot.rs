//! Plots of a report, as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::artifact::{Artifact, Percentiles, Summary, Workload};

const SIZE: (u32, u32) = (900, 380);
const LEGEND: u32 = 40;
const FONT: &str = "sans-serif";

/// A quantity that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Generated tokens a second.
    Decode,
    /// Milliseconds to the first content.
    Ttft,
    /// Milliseconds to the end.
    Latency,
    /// Tokens that a verified draft brings.
    AcceptLength,
}

impl Shown {
    pub(super) const ALL: [Self; 4] = [Self::Decode, Self::Ttft, Self::Latency, Self::AcceptLength];

    /// Name of its file.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::Decode => "decode.svg",
            Self::Ttft => "ttft.svg",
            Self::Latency => "latency.svg",
            Self::AcceptLength => "accept-length.svg",
        }
    }

    /// What it is, for people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Decode => "Generated tokens a second",
            Self::Ttft => "Milliseconds to the first token",
            Self::Latency => "Milliseconds to the end of the answer",
            Self::AcceptLength => "Tokens a verified draft brings",
        }
    }

    fn of(self, summary: &Summary) -> Option<Percentiles> {
        match self {
            Self::Decode => summary.decode_tps,
            Self::Ttft => summary.ttft_ms,
            Self::Latency => summary.latency_ms,
            // Of all drafts together: there is no distribution.
            Self::AcceptLength => summary.accept_length.map(|length| Percentiles {
                p5: length,
                p50: length,
                p95: length,
            }),
        }
    }
}

/// Bars of every contestant, a chart for each workload, whiskers from the 5th to the 95th percentile.
///
/// # Errors
/// In words, of the drawing library.
pub(super) fn bars(artifact: &Artifact, shown: Shown) -> Result<String, String> {
    let mut svg = String::new();
    draw(artifact, shown, &mut svg).map_err(|error| format!("{}: {error}", shown.file()))?;
    Ok(svg)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(artifact: &Artifact, shown: Shown, svg: &mut String) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (charts, legend) = root.split_vertically(SIZE.1 - LEGEND);
    let workloads = workloads(artifact);
    let areas = charts
        .titled(shown.title(), (FONT, 18))?
        .split_evenly((1, workloads.len().max(1)));
    for (area, workload) in areas.iter().zip(&workloads) {
        chart(artifact, shown, *workload, area)?;
    }
    names(artifact, &legend)?;
    root.present()?;
    Ok(())
}

fn workloads(artifact: &Artifact) -> Vec<Workload> {
    let first = artifact.contestants.first();
    let cells = first.map(|c| c.cells.as_slice()).unwrap_or_default();
    cells.iter().map(|cell| cell.workload).collect()
}

fn chart(
    artifact: &Artifact,
    shown: Shown,
    workload: Workload,
    area: &DrawingArea<SVGBackend<'_>, Shift>,
) -> Drawn {
    let values: Vec<Option<Percentiles>> = artifact
        .contestants
        .iter()
        .map(|c| shown.of(&c.cell(workload)?.summary))
        .collect();
    let most = values
        .iter()
        .flatten()
        .map(|value| value.p95)
        .fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(workload.as_str(), (FONT, 15))
        .margin(8)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..values.len() as f64, 0.0..(most * 1.1).max(1.0))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .y_labels(6)
        .label_style((FONT, 12))
        .draw()?;
    for (n, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let (left, middle) = (n as f64 + 0.12, n as f64 + 0.5);
        let bar = Rectangle::new(
            [(left, 0.0), (n as f64 + 0.88, value.p50)],
            colour(n).filled(),
        );
        let whisker = PathElement::new(vec![(middle, value.p5), (middle, value.p95)], BLACK);
        chart.draw_series(std::iter::once(bar))?;
        chart.draw_series(std::iter::once(whisker))?;
    }
    Ok(())
}

fn names(artifact: &Artifact, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
    let width = SIZE.0 as i32 / artifact.contestants.len().max(1) as i32;
    let style = TextStyle::from((FONT, 13)).pos(Pos::new(HPos::Left, VPos::Center));
    for (n, contestant) in artifact.contestants.iter().enumerate() {
        let left = n as i32 * width + 10;
        area.draw(&Rectangle::new(
            [(left, 12), (left + 12, 24)],
            colour(n).filled(),
        ))?;
        area.draw(&Text::new(
            contestant.name.clone(),
            (left + 17, 18),
            style.clone(),
        ))?;
    }
    Ok(())
}

fn colour(n: usize) -> RGBColor {
    let (r, g, b) = Palette99::COLORS[n % Palette99::COLORS.len()];
    RGBColor(r, g, b)
}

#[cfg(test)]
mod tests {
    use super::super::tests::artifact;
    use super::*;

    #[test]
    fn every_contestant_has_its_bar_and_its_name() {
        let artifact = artifact(|_, _| 1.0);
        for shown in Shown::ALL {
            let svg = bars(&artifact, shown).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            for text in [shown.title(), "none", "ngram-mod", "repetitive", "prose"] {
                assert!(svg.contains(text), "{shown:?}: {text}");
            }
        }
        let decode = bars(&artifact, Shown::Decode).unwrap();
        let accept = bars(&artifact, Shown::AcceptLength).unwrap();
        let count = |svg: &str| svg.matches("<rect").count();
        // `none` has no accept length, in two charts.
        assert_eq!(count(&decode), count(&accept) + 2);
    }
}
