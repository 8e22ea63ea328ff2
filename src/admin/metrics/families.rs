//! How families of metrics are written.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use crate::count::LatencyCounts;

/// A name, without the suffix of its type, and what the numbers are.
pub(super) type Described = (&'static str, &'static str);

/// Numbers that only grow, with labels.
pub(super) fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Described,
    values: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        family
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
    }
    Ok(())
}

/// Numbers that go up and down, with labels.
pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Described,
    values: impl IntoIterator<Item = (L, V)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// One number that only grows.
pub(super) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Described,
    value: &impl EncodeCounterValue,
) -> fmt::Result {
    encoder
        .encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, f64>(value, None)
}

/// One number that goes up and down; nothing if it is not known.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Described,
    value: Option<impl EncodeGaugeValue>,
) -> fmt::Result {
    match value {
        None => Ok(()),
        Some(value) => encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value),
    }
}

/// Histograms with labels.
pub(super) fn histograms<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Described,
    values: impl IntoIterator<Item = (L, LatencyCounts)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, counts) in values {
        family
            .encode_family(&labels)?
            .encode_histogram::<NoLabelSet>(counts.sum, counts.n_events, &counts.buckets, None)?;
    }
    Ok(())
}
