//! The text of `/metrics`: OpenMetrics 1.0 for those who ask for it, else Prometheus' own text format 0.0.4.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::histogram::Counted;

/// The labels of one series.
pub type Labels = Vec<(&'static str, String)>;

/// All series of one name.
#[derive(Clone, Debug)]
pub struct Family {
    /// Without its unit, and without `_total`.
    pub name: &'static str,
    /// What it is, in one sentence without its full stop.
    pub help: &'static str,
    /// Its unit, which becomes the end of its name; empty where it counts things.
    pub unit: &'static str,
    /// Its series.
    pub series: Series,
}

/// The values of a family.
#[derive(Clone, Debug)]
pub enum Series {
    /// They only grow.
    Counter(Vec<(Labels, u64)>),
    /// They grow and shrink.
    Gauge(Vec<(Labels, f64)>),
    /// Durations in seconds.
    Histogram(Vec<(Labels, Counted)>),
}

/// A text, and what it is.
pub struct Exposition {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Itself.
    pub text: String,
}

/// Writes these families for whoever says that he accepts this.
///
/// # Errors
///
/// None that a text in memory has.
pub fn expose(families: Vec<Family>, accept: &str) -> Result<Exposition, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(families)));
    let mut openmetrics = String::new();
    text::encode(&mut openmetrics, &registry)?;
    if accept.contains("application/openmetrics-text") {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return Ok(Exposition { content_type, text: openmetrics });
    }
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(Exposition { content_type, text: plain(&openmetrics) })
}

/// The same in the older format: a counter's name there has its `_total`, and there are neither units nor an end.
fn plain(openmetrics: &str) -> String {
    let counter = |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    let counters: std::collections::HashSet<String> = openmetrics.lines().filter_map(counter).collect();
    let mut plain = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                plain.push_str(&format!("# {what} {name}_total {rest}"));
            }
            _ => plain.push_str(line),
        }
        plain.push('\n');
    }
    plain
}

#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { name, help, unit, series } in &self.0 {
            let unit = match *unit {
                "" => None,
                "seconds" => Some(Unit::Seconds),
                "bytes" => Some(Unit::Bytes),
                other => Some(Unit::Other(other.to_owned())),
            };
            let kind = match series {
                Series::Counter(_) => MetricType::Counter,
                Series::Gauge(_) => MetricType::Gauge,
                Series::Histogram(_) => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            match series {
                Series::Counter(series) => {
                    for (labels, value) in series {
                        family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                    }
                }
                Series::Gauge(series) => {
                    for (labels, value) in series {
                        family.encode_family(labels)?.encode_gauge(value)?;
                    }
                }
                Series::Histogram(series) => {
                    for (labels, Counted { sum, count, buckets }) in series {
                        let mut one = family.encode_family(labels)?;
                        one.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
