//! A strict reader of what `/metrics` says: OpenMetrics 1.0, and Prometheus' text format 0.0.4.
//!
//! It refuses what a lenient scraper would take: a sample of no family, a family in two pieces or without its help, a series
//! twice, a unit that the name does not end with, a histogram whose buckets do not add up.

use std::collections::{BTreeMap, BTreeSet};

use crate::Host;

/// All samples by their names with labels, as in `name{a="1",b="2"}`, labels in order of their names.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With units and an end.
    OpenMetrics,
    /// Without.
    Plain,
}

#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    has_help: bool,
    series: BTreeSet<(String, Labels)>,
}

/// What this host says at `/metrics`.
pub async fn scrape(host: &Host, format: Format) -> Metrics {
    let address = host.admin_address().await;
    let accept = match format {
        Format::OpenMetrics => "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n",
        Format::Plain => "",
    };
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n{accept}\r\n");
    let answer = crate::admin::request(&address, &request).await.expect("an answer");
    Metrics::parse(&answer.body, format).unwrap_or_else(|wrong| panic!("{wrong}\n{}", answer.body))
}

impl Metrics {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// The line that is against the rules, and which.
    pub fn parse(text: &str, format: Format) -> Result<Self, String> {
        let body = match format {
            Format::OpenMetrics => text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?,
            Format::Plain => text,
        };
        if !body.ends_with('\n') || body.contains("\n\n") || body.contains("# EOF") {
            return Err("an empty line, an end in the midst, or none of the last line".to_owned());
        }
        let (mut metrics, mut names, mut family) = (Self::default(), BTreeSet::new(), Family::default());
        for line in body.lines() {
            let wrong = |why: &str| format!("{why}: {line}");
            let Some(comment) = line.strip_prefix("# ") else {
                let (name, labels, value) = sample(line).ok_or_else(|| wrong("no sample"))?;
                if !family.has_sample(&name, &labels, value, format) {
                    return Err(wrong("no sample of its family"));
                }
                if metrics.samples.insert((name, labels), value).is_some() {
                    return Err(wrong("twice"));
                }
                continue;
            };
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) = (words.next(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if !is_name(name) || rest.is_empty() {
                return Err(wrong("no description"));
            }
            if name != family.name {
                family.check(&metrics)?;
                if what != Some("HELP") || !names.insert(name.to_owned()) {
                    return Err(wrong("a family in two pieces, or without its help"));
                }
                family = Family { name: name.to_owned(), ..Family::default() };
            }
            match what {
                Some("HELP") if !family.has_help => family.has_help = true,
                Some("TYPE") if family.kind.is_empty() => family.kind = rest.to_owned(),
                Some("UNIT") if format == Format::OpenMetrics && name.ends_with(&format!("_{rest}")) => {}
                _ => return Err(wrong("a description twice, or unknown")),
            }
        }
        family.check(&metrics)?;
        Ok(metrics)
    }

    /// The sum of all samples of this name that have these labels, and others; none where there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |of: &Labels| labels.iter().all(|(key, value)| of.get(*key).is_some_and(|own| own == value));
        let matching = self.samples.iter().filter(|((own, of), _)| own == name && has(of));
        let values: Vec<f64> = matching.map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

impl Family {
    fn has_sample(&mut self, name: &str, labels: &Labels, value: f64, format: Format) -> bool {
        let Some(suffix) = name.strip_prefix(&self.name) else { return false };
        let without_le: Labels =
            labels.iter().filter(|(key, _)| *key != "le").map(|(k, v)| (k.clone(), v.clone())).collect();
        let fits = match (self.kind.as_str(), suffix) {
            ("counter", "_total") => format == Format::OpenMetrics && value >= 0.0,
            ("counter", "") => format == Format::Plain && self.name.ends_with("_total") && value >= 0.0,
            ("gauge", "") => true,
            ("histogram", "_bucket") => labels.contains_key("le"),
            ("histogram", "_sum" | "_count") => !labels.contains_key("le"),
            _ => false,
        };
        self.series.insert((name.to_owned(), without_le));
        fits && value.is_finite()
    }

    /// A histogram's buckets grow, and the last of them is all.
    fn check(&self, metrics: &Metrics) -> Result<(), String> {
        if !self.name.is_empty() && (self.kind.is_empty() || !self.has_help) {
            return Err(format!("{} has no help or no type", self.name));
        }
        if self.kind != "histogram" {
            return Ok(());
        }
        for (name, labels) in &self.series {
            if !name.ends_with("_bucket") {
                continue;
            }
            let mut buckets = Vec::new();
            for ((_, own), count) in metrics.samples.iter().filter(|((own, _), _)| own == name) {
                let le = &own["le"];
                if own.iter().filter(|(key, _)| *key != "le").eq(labels.iter()) {
                    let bound =
                        if le == "+Inf" { f64::INFINITY } else { le.parse().map_err(|_| format!("le={le}"))? };
                    buckets.push((bound, *count));
                }
            }
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            let grows = buckets.windows(2).all(|two| two[0].1 <= two[1].1);
            let all = metrics.samples.get(&(format!("{}_count", self.name), labels.clone()));
            let last = buckets.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, count)| count);
            let sum = metrics.samples.get(&(format!("{}_sum", self.name), labels.clone()));
            if !grows || last != all || all.is_none() || sum.is_none_or(|sum| *sum < 0.0) {
                return Err(format!("the buckets of {name} {labels:?} do not add up: {buckets:?}, {all:?}"));
            }
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// `name{label="value",…} number`
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if !is_name(key) || labels.insert(key.to_owned(), value).is_some() {
                return None;
            }
            rest = match after.strip_prefix(',') {
                Some(more) if !more.starts_with('}') => more,
                Some(_) => return None,
                None => after,
            };
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    is_name(name).then(|| (name.to_owned(), labels, value))
}

/// A label's value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut letters) = (String::new(), text.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}
