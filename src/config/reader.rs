//! Walks a TOML table: each key that is asked for is read or reported, the rest is unknown.
//!
//! A mistake never ends the walk. It leaves a [`Setting::Wrong`], so that what depends on the value
//! is not checked and one mistake is not reported twice.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::suggestion;

/// What a file says about a key.
#[derive(Debug, Clone, Default)]
pub(super) enum Setting<T> {
    /// Nothing.
    #[default]
    Absent,
    /// A value.
    Written(Spanned<T>),
    /// Something that was refused, and reported.
    Wrong,
}

/// A type of value that a key can have.
pub(super) trait Read: Sized {
    /// Reports what is wrong with the value if it is `None`.
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self>;
}

/// A type of value that is written as a string.
pub(super) trait FromText: Sized {
    /// A value as one writes it, quotes included.
    const EXAMPLE: &'static str;

    fn from_text(text: &str) -> Result<Self, Mistake>;
}

/// A table with known keys; everything in it may be left out.
pub(super) trait Table: Default {
    const KEYS: &'static [&'static str];

    fn read_table(reader: &mut TableReader<'_, '_>) -> Self;

    /// Takes from `defaults` what is not written here.
    fn inherit(self, defaults: &Self) -> Self;
}

/// A value, and what its key is called in messages (`history.bytes`).
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

/// A table that is being read.
#[derive(Debug)]
pub(super) struct TableReader<'a, 'f> {
    pub(super) findings: &'f mut Findings,
    /// What the table is called in messages: ``in `[server]` ``.
    place: String,
    /// Comes before each key in messages.
    prefix: String,
    table: &'a DeTable<'a>,
    /// The keys that were asked for: those that are known.
    asked: Vec<&'static str>,
    /// Those that unknown keys were probably meant to be.
    meant: Vec<&'static str>,
}

impl<T> Setting<T> {
    pub(super) fn written(&self) -> Option<&T> {
        match self {
            Self::Written(value) => Some(value.get_ref()),
            Self::Absent | Self::Wrong => None,
        }
    }

    pub(super) fn span(&self) -> Option<Range<usize>> {
        match self {
            Self::Written(value) => Some(value.span()),
            Self::Absent | Self::Wrong => None,
        }
    }

    pub(super) fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// What is written here, else what `other` says.
    pub(super) fn or(self, other: &Self) -> Self
    where
        T: Clone,
    {
        if self.is_absent() {
            other.clone()
        } else {
            self
        }
    }
}

impl<T: Clone> Setting<T> {
    /// What is written, or the default.
    pub(super) fn get_or(&self, default: T) -> T {
        self.written().cloned().unwrap_or(default)
    }
}

impl<T: FromText> Read for T {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let example = || format!("write it like this: `{}`", T::EXAMPLE);
        let result = match entry.value.get_ref() {
            DeValue::String(text) => T::from_text(text),
            // `threads = "2"` has a twin: `upstream_http = 2`. What would the string say?
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                let text = scalar_text(entry.value.get_ref());
                let message = format!("must be a string, not {}", entry.kind());
                Err(match (T::from_text(&text), entry.value.get_ref()) {
                    (Ok(_), _) => Mistake::new(message, format!("put it in quotes: `\"{text}\"`")),
                    (Err(mistake), DeValue::Boolean(_)) => Mistake { message, ..mistake },
                    (Err(mistake), _) => mistake,
                })
            }
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Err(Mistake::new(
                format!("must be a string, not {}", entry.kind()),
                example(),
            )),
        };
        result
            .map_err(|mistake| entry.refuse(mistake, findings))
            .ok()
    }
}

impl Entry<'_> {
    /// Reports a mistake about the value.
    pub(super) fn refuse(&self, mistake: Mistake, findings: &mut Findings) {
        findings.error(self.value.span(), mistake.of(&self.key));
    }

    /// The kind of the value, with an article.
    pub(super) fn kind(&self) -> &'static str {
        match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}

impl<'a, 'f> TableReader<'a, 'f> {
    /// A reader of the whole document.
    pub(super) fn document(table: &'a DeTable<'a>, findings: &'f mut Findings) -> Self {
        let place = "at the top of the file".to_owned();
        Self {
            findings,
            place,
            prefix: String::new(),
            table,
            asked: Vec::new(),
            meant: Vec::new(),
        }
    }

    /// A reader of the table that is a value; `None`: it is none.
    pub(super) fn inline(entry: &Entry<'a>, findings: &'f mut Findings) -> Option<Self> {
        let table = entry.value.get_ref().as_table()?;
        Some(Self {
            findings,
            place: format!("in `{}`", entry.key),
            prefix: format!("{}.", entry.key),
            table,
            asked: Vec::new(),
            meant: Vec::new(),
        })
    }

    /// Reads the value of a key.
    pub(super) fn take<T: Read>(&mut self, key: &'static str) -> Setting<T> {
        let Some(entry) = self.entry(key) else {
            return Setting::Absent;
        };
        match T::read(&entry, self.findings) {
            Some(value) => Setting::Written(Spanned::new(entry.value.span(), value)),
            None => Setting::Wrong,
        }
    }

    /// Reads a table of settings, `key = { … }` or `[place.key]`.
    pub(super) fn take_table<T: Table>(&mut self, key: &'static str) -> T {
        let Some(entry) = self.entry(key) else {
            return T::default();
        };
        let Some(mut reader) = TableReader::inline(&entry, self.findings) else {
            let parts: Vec<_> = T::KEYS.iter().map(|key| format!("{key} = …")).collect();
            let advice = format!("write `{key} = {{ {} }}`", parts.join(", "));
            let message = format!("must be a table, not {}", entry.kind());
            entry.refuse(Mistake::new(message, advice), self.findings);
            return T::default();
        };
        T::read_table(&mut reader)
    }

    /// Reads a section with known keys, `[key]`; its keys go by their own names in messages.
    pub(super) fn take_section<T: Table>(&mut self, key: &'static str) -> T {
        let Some(entry) = self.entry(key) else {
            return T::default();
        };
        let Some(table) = entry.value.get_ref().as_table() else {
            let message = format!("must be a table, not {}", entry.kind());
            let advice = format!("begin a table with a line `[{key}]`");
            entry.refuse(Mistake::new(message, advice), self.findings);
            return T::default();
        };
        T::read_table(&mut section(&format!("[{key}]"), table, self.findings))
    }

    /// Reads the tables `[key.NAME]`, in the order of their names; `None`: there is none.
    pub(super) fn take_named<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Spanned<String>, &mut TableReader<'_, '_>) -> T,
    ) -> Option<Vec<T>> {
        let entry = self.entry(key)?;
        let advice = format!("give each a name, and a table of its own: `[{key}.NAME]`");
        let Some(table) = entry.value.get_ref().as_table() else {
            let message = format!("must be a table of named tables, not {}", entry.kind());
            self.findings
                .error(entry.key_span, Mistake::new(message, advice).of(key));
            return Some(Vec::new());
        };
        let mut list = Vec::new();
        let mut nameless: Option<Range<usize>> = None;
        for (name, value) in table {
            let Some(table) = value.get_ref().as_table() else {
                // `[channels]` and at once its settings: one mistake, however many settings.
                let is_first = nameless
                    .as_ref()
                    .is_none_or(|span| name.span().start < span.start);
                nameless = if is_first {
                    Some(name.span())
                } else {
                    nameless
                };
                continue;
            };
            check_name(key, name, self.findings);
            let name = Spanned::new(name.span(), name.get_ref().clone().into_owned());
            let place = format!("[{key}.{}]", name.get_ref());
            list.push(read(&name, &mut section(&place, table, self.findings)));
        }
        if let Some(span) = nameless {
            let message = format!("a setting directly in `[{key}]`, which holds only named tables");
            self.findings.error(span, Mistake::new(message, advice));
        }
        Some(list)
    }

    /// Reports the keys that nobody asked for. `elsewhere`: places and the keys that are known there.
    pub(super) fn finish(&mut self, elsewhere: &[(&str, &[&str])]) {
        for (name, _) in self.table {
            let text: &str = name.get_ref();
            if !self.asked.contains(&text) {
                self.meant.extend(suggestion::nearest(text, &self.asked));
                let message = format!("unknown key `{text}` {}", self.place);
                let advice = suggestion::for_key(text, &self.asked, elsewhere);
                self.findings
                    .error(name.span(), Mistake::new(message, advice));
            }
        }
    }

    /// Does not call a key missing that is there but misspelt, once `finish` has reported that.
    pub(super) fn forgive<T>(&self, key: &str, setting: Setting<T>) -> Setting<T> {
        if setting.is_absent() && self.is_misspelt(key) {
            Setting::Wrong
        } else {
            setting
        }
    }

    /// Whether an unknown key was probably meant to be this one.
    pub(super) fn is_misspelt(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    /// All keys and values of a table whose keys are free, in the file's order.
    pub(super) fn entries(table: &'a DeTable<'a>, prefix: &str) -> Vec<Entry<'a>> {
        let mut entries: Vec<_> = (table.iter())
            .map(|(name, value)| Entry {
                key: format!("{prefix}.{}", name.get_ref()),
                key_span: name.span(),
                value,
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }

    fn entry(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some(Entry {
            key: format!("{}{key}", self.prefix),
            key_span: name.span(),
            value,
        })
    }
}

/// A reader of a `[place]`.
fn section<'a, 'f>(
    place: &str,
    table: &'a DeTable<'a>,
    findings: &'f mut Findings,
) -> TableReader<'a, 'f> {
    let place = format!("in `{place}`");
    TableReader {
        findings,
        place,
        prefix: String::new(),
        table,
        asked: Vec::new(),
        meant: Vec::new(),
    }
}

/// Names are identities in logs and metrics: lower-case letters, digits, `-` and `_`.
fn check_name(key: &str, name: &Spanned<std::borrow::Cow<'_, str>>, findings: &mut Findings) {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let text: &str = name.get_ref();
    if text.is_empty() || !text.chars().all(is_plain) {
        let message = format!("`{text}` cannot be a name");
        let plain: String = (text.to_lowercase().chars())
            .map(|c| if is_plain(c) { c } else { '-' })
            .collect();
        let plain = plain.trim_matches('-');
        let plain = if plain.is_empty() { "events" } else { plain };
        let rule = "names are made of lower-case letters, digits, `-` and `_`";
        let advice = format!("{rule}: `[{key}.{plain}]`");
        findings.error(name.span(), Mistake::new(message, advice));
    }
}

/// A number or a boolean as the file has it.
fn scalar_text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => String::new(),
    }
}
