//! The numbers of several windows, and what is said of them.

/// Numbers in the order in which they were measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    values: Vec<f64>,
}

impl Series {
    /// Their median; not a number where there are none.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The first.
    pub(crate) fn first(&self) -> f64 {
        self.values.first().copied().unwrap_or(f64::NAN)
    }

    /// The least.
    pub(crate) fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The greatest.
    pub(crate) fn max(&self) -> f64 {
        self.values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// This one's numbers by the other's of the same round: neighbours in time, which share the
    /// moods of the machine.
    pub(crate) fn ratio_to(&self, base: &Self) -> Self {
        self.values
            .iter()
            .zip(&base.values)
            .map(|(value, base)| value / base)
            .collect()
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self {
            values: values.into_iter().collect(),
        }
    }
}

impl From<f64> for Series {
    fn from(value: f64) -> Self {
        Self {
            values: vec![value],
        }
    }
}
