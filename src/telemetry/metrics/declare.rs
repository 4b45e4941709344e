//! Declaring a series in one line, and remembering what was declared for the reference page.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry,
};

/// What is known of a declared series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Description {
    /// The chapter of the reference page.
    pub(super) chapter: &'static str,
    pub(super) name: String,
    /// `counter`, `gauge` or `histogram`.
    pub(super) kind: &'static str,
    pub(super) labels: Vec<String>,
    pub(super) help: String,
    /// Upper bounds of a histogram's buckets.
    pub(super) buckets: &'static [f64],
}

/// Declares a group of series: the struct that holds them, and `declare`, which registers them.
/// A line a series: `field: counters("name", "help", ["label"]);`.
macro_rules! series {
    ($(#[$meta:meta])* $group:ident, $chapter:literal {
        $($field:ident: $kind:ident($name:literal, $help:literal $(, $args:expr)* $(,)?);)+
    }) => {
        $(#[$meta])*
        pub(super) struct $group { $($field: $crate::telemetry::metrics::declare::series!(@ $kind),)+ }

        impl $group {
            pub(super) fn declare(to: &$crate::telemetry::metrics::declare::Declare<'_>) -> prometheus::Result<Self> {
                let to = to.chapter($chapter);
                Ok(Self { $($field: to.$kind($name, $help $(, $args)*)?,)+ })
            }
        }
    };
    (@ counter) => { prometheus::IntCounter };
    (@ counters) => { prometheus::IntCounterVec };
    (@ float_counters) => { prometheus::CounterVec };
    (@ gauges) => { prometheus::GaugeVec };
    (@ histogram) => { prometheus::Histogram };
    (@ histograms) => { prometheus::HistogramVec };
}
pub(super) use series;

/// Declares and registers in one step.
pub(super) struct Declare<'a> {
    pub(super) registry: &'a Registry,
    pub(super) described: &'a RefCell<Vec<Description>>,
    pub(super) chapter: &'static str,
}

impl Declare<'_> {
    /// The same for another chapter.
    pub(super) fn chapter(&self, chapter: &'static str) -> Self {
        Self {
            registry: self.registry,
            described: self.described,
            chapter,
        }
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help)?, "counter", &[])
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.add(counters, "counter", &[])
    }

    pub(super) fn float_counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<CounterVec> {
        let counters = CounterVec::new(Opts::new(name, help), labels)?;
        self.add(counters, "counter", &[])
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<GaugeVec> {
        let gauges = GaugeVec::new(Opts::new(name, help), labels)?;
        self.add(gauges, "gauge", &[])
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &'static [f64],
    ) -> prometheus::Result<Histogram> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(opts)?, "histogram", buckets)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &'static [f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(HistogramVec::new(opts, labels)?, "histogram", buckets)
    }

    /// Registers what brings its own descriptions: all of `collector` is of one `kind`.
    pub(super) fn add<C: Collector + Clone + 'static>(
        &self,
        collector: C,
        kind: &'static str,
        buckets: &'static [f64],
    ) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        let mut described = self.described.borrow_mut();
        for desc in collector.desc() {
            described.push(Description {
                chapter: self.chapter,
                name: desc.fq_name.clone(),
                kind,
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
                buckets,
            });
        }
        Ok(collector)
    }
}
