//! The table at the end: a row for each thing that was measured.

use crate::load::Faults;
use crate::series::Series;

/// What was measured in a case, of both servers.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The case; filled in by the bench.
    pub(crate) case: &'static str,
    /// What.
    pub(crate) what: String,
    /// In which unit.
    pub(crate) unit: &'static str,
    /// Of the gateway.
    pub(crate) gateway: Series,
    /// Of the bare loop, where it is comparable.
    pub(crate) bare: Option<Series>,
    /// What the gateway must reach.
    pub(crate) bar: Bar,
    /// What was wrong with what both delivered.
    pub(crate) faults: Faults,
}

/// What the gateway must reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// So many times the bare loop, or less.
    AtMostTimes(f64),
    /// So many times the bare loop, or more.
    AtLeastTimes(f64),
    /// So much, or less.
    AtMost(f64),
    /// So much, or more.
    AtLeast(f64),
    /// Nothing: it is shown for what it is.
    None,
}

impl Row {
    /// A row without a bar or a fault.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, gateway: Series) -> Self {
        Self {
            case: "",
            what: what.into(),
            unit,
            gateway,
            bare: None,
            bar: Bar::None,
            faults: Faults::default(),
        }
    }

    /// The row with the bare loop's numbers.
    pub(crate) fn beside(self, bare: Series) -> Self {
        Self {
            bare: Some(bare),
            ..self
        }
    }

    /// The row with a bar.
    pub(crate) fn bar(self, bar: Bar) -> Self {
        Self { bar, ..self }
    }

    /// The row with what was wrong.
    pub(crate) fn faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    fn ratio(&self) -> Option<Series> {
        self.bare.as_ref().map(|bare| self.gateway.ratio_to(bare))
    }

    /// Whether the bar is met; `None` where there is none.
    fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio().map_or(f64::NAN, |ratio| ratio.median());
        match self.bar {
            Bar::AtMostTimes(limit) => Some(ratio <= limit),
            Bar::AtLeastTimes(limit) => Some(ratio >= limit),
            Bar::AtMost(limit) => Some(self.gateway.median() <= limit),
            Bar::AtLeast(limit) => Some(self.gateway.median() >= limit),
            Bar::None => None,
        }
    }

    fn cells(&self) -> [String; 8] {
        let unit = self.unit;
        [
            self.case.to_owned(),
            self.what.clone(),
            with_spread(&self.gateway, unit),
            self.bare
                .as_ref()
                .map_or_else(String::new, |bare| with_spread(bare, unit)),
            self.ratio()
                .map_or_else(String::new, |ratio| with_spread(&ratio, "")),
            match self.bar {
                Bar::AtMostTimes(limit) => format!("≤ {limit} x"),
                Bar::AtLeastTimes(limit) => format!("≥ {limit} x"),
                Bar::AtMost(limit) => format!("≤ {} {unit}", number(limit)),
                Bar::AtLeast(limit) => format!("≥ {} {unit}", number(limit)),
                Bar::None => String::new(),
            },
            match self.is_met() {
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
                None => String::new(),
            },
            self.faults.to_string(),
        ]
    }
}

/// Prints the rows as a table that Markdown understands.
pub(crate) fn print(rows: &[Row]) {
    let titles = [
        "case",
        "what",
        "gateway",
        "bare loop",
        "ratio",
        "bar",
        "met",
        "gaps, duplicates, …",
    ];
    let mut lines = vec![titles.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = [0; 8];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    lines.insert(1, widths.map(|width| "-".repeat(width)));
    for line in lines {
        let cells = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

/// A line on a row, for the progress.
pub(crate) fn summary(row: &Row) -> String {
    let [_, what, gateway, bare, ratio, _, met, faults] = row.cells();
    let mut line = format!("{what}: gateway {gateway}");
    for (name, cell) in [("bare", bare), ("ratio", ratio), ("bar met:", met)] {
        if !cell.is_empty() {
            line += &format!(", {name} {cell}");
        }
    }
    if faults != "0" {
        line += &format!(", FAULTS: {faults}");
    }
    line
}

/// The median, and from where to where it went if there was more than one.
fn with_spread(series: &Series, unit: &str) -> String {
    let median = number(series.median());
    let value = format!("{median} {unit}");
    if series.len() < 2 {
        return value.trim_end().to_owned();
    }
    format!(
        "{} ({}–{})",
        value.trim_end(),
        number(series.min()),
        number(series.max())
    )
}

/// Three digits, more only where they are whole.
fn number(value: f64) -> String {
    match value.abs() {
        size if !value.is_finite() || size == 0.0 => format!("{value}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        size if size < 10_000.0 => format!("{value:.0}"),
        size if size < 1e6 => format!("{:.0}k", value / 1e3),
        _ => format!("{:.2}M", value / 1e6),
    }
}
