//! Who stands for a bucket: the last request that fell into it, which a chart can lead to.
//!
//! Exemplars of OpenMetrics
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars>). The registry does not know them; they are kept
//! beside it and joined at a scrape.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use prometheus::proto::Metric;

use super::Metrics;
use super::requests::{INTER_TOKEN_SECONDS, REQUEST_SECONDS, TTFT_SECONDS};
use crate::telemetry::access_log::Record;
use crate::telemetry::labels::Configured;

/// One request, and what was measured of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub(super) request_id: Box<str>,
    pub(super) trace_id: Option<Box<str>>,
    pub(super) value: f64,
    pub(super) at: SystemTime,
}

/// The exemplars of all histograms that have them.
#[derive(Debug, Default)]
pub(super) struct Exemplars {
    // A histogram has a set of labels for each dialect and pool: few enough to be looked through.
    families: Mutex<HashMap<&'static str, Vec<Labelled>>>,
}

/// Those of one set of labels.
#[derive(Clone, Debug)]
struct Labelled {
    /// Values, in the order of the labels' names.
    labels: Box<[Box<str>]>,
    /// One for each bucket; the last is the one without a bound.
    buckets: Vec<Option<Exemplar>>,
}

/// Those of one histogram, as they were when they were asked for.
#[derive(Debug, Default)]
pub(super) struct Family(Vec<Labelled>);

impl Exemplars {
    fn keep(
        &self,
        family: &'static str,
        labels: &[&str],
        bounds: &[f64],
        took: Duration,
        record: &Record,
    ) {
        let value = took.as_secs_f64();
        let exemplar = Exemplar {
            request_id: record.request_id.as_str().into(),
            trace_id: record.trace_id.as_deref().map(Into::into),
            value,
            at: record.time + record.total,
        };
        let bucket = bounds.partition_point(|bound| *bound < value);
        let mut families = self.families.lock();
        let sets = families.entry(family).or_default();
        let is_it = |set: &Labelled| set.labels.iter().map(|l| &**l).eq(labels.iter().copied());
        let place = sets.iter().position(is_it).unwrap_or_else(|| {
            sets.push(Labelled {
                labels: labels.iter().map(|label| (*label).into()).collect(),
                buckets: vec![None; bounds.len() + 1],
            });
            sets.len() - 1
        });
        sets[place].buckets[bucket] = Some(exemplar);
    }

    /// Those of the histogram called `family`.
    pub(super) fn of(&self, family: &str) -> Family {
        Family(
            self.families
                .lock()
                .get(family)
                .cloned()
                .unwrap_or_default(),
        )
    }
}

impl Family {
    /// The exemplar of a bucket (by its number) of one set of labels.
    pub(super) fn of(&self, metric: &Metric, bucket: usize) -> Option<&Exemplar> {
        let labels = metric.get_label();
        let set = self.0.iter().find(|set| {
            let values = labels.iter().map(|label| label.value());
            set.labels.iter().map(|label| &**label).eq(values)
        })?;
        set.buckets.get(bucket)?.as_ref()
    }
}

impl Metrics {
    /// Remembers a finished turn as the one to ask about its buckets. `longest_gap` is the longest silence between two
    /// of its content events.
    pub fn witness(&self, record: &Record, longest_gap: Option<Duration>) {
        let pool = record
            .pool
            .as_deref()
            .map_or(Configured::NONE, Configured::name);
        let labels = [record.dialect.as_str(), pool.as_str()];
        let keep = |family, labels: &[&str], bounds, took| {
            self.exemplars.keep(family, labels, bounds, took, record);
        };
        keep(
            "drover_request_seconds",
            &labels,
            REQUEST_SECONDS,
            record.total,
        );
        if let Some(ttft) = record.ttft {
            keep("drover_ttft_seconds", &labels, TTFT_SECONDS, ttft);
        }
        if let Some(gap) = longest_gap {
            keep(
                "drover_inter_token_seconds",
                &labels[1..],
                INTER_TOKEN_SECONDS,
                gap,
            );
        }
    }
}
