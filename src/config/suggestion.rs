//! What somebody may have meant who wrote a word that we do not know.

/// Words that people bring from other programs, and what they are called here.
const SYNONYMS: [(&str, &str); 22] = [
    ("addr", "address"),
    ("backend", "upstream"),
    ("bind", "address"),
    ("buffer", "history"),
    ("dns", "host"),
    ("headers", "upstream_headers"),
    ("hosts", "host"),
    ("http", "upstream_http"),
    ("keep_alive", "heartbeat"),
    ("keepalive", "heartbeat"),
    ("location", "path"),
    ("origin", "upstream"),
    ("origins", "cors"),
    ("ping", "heartbeat"),
    ("port", "address"),
    ("read_timeout", "idle_timeout"),
    ("reconnect", "backoff"),
    ("replay", "history"),
    ("route", "path"),
    ("url", "upstream"),
    ("uri", "upstream"),
    ("workers", "threads"),
];

/// Advice for an unknown key: `known` are right here, `elsewhere` are places and their keys.
pub(super) fn for_key(word: &str, known: &[&str], elsewhere: &[(&str, &[&str])]) -> String {
    if let Some(near) = nearest(word, known) {
        return format!("did you mean `{near}`?");
    }
    if let Some((place, _)) = elsewhere.iter().find(|(_, keys)| keys.contains(&word)) {
        return format!("`{word}` belongs {place}");
    }
    let near = elsewhere
        .iter()
        .find_map(|(place, keys)| Some((place, nearest(word, keys)?)));
    if let Some((place, near)) = near {
        return format!("did you mean `{near}`? It belongs {place}");
    }
    format!("known here{}", list(known))
}

/// The one of `known` that `word` most probably means.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = word.to_lowercase().replace('-', "_");
    let synonym = SYNONYMS
        .iter()
        .find(|(other, _)| *other == plain)
        .map(|(_, ours)| *ours);
    if let Some(ours) = synonym.and_then(|ours| known.iter().find(|key| **key == ours)) {
        return Some(ours);
    }
    let limit = (plain.chars().count() / 3).max(1);
    let near = (known.iter())
        .map(|key| (distance(&plain, key), *key))
        .filter(|(distance, key)| *distance <= limit && *distance < key.len())
        .min_by_key(|(distance, _)| *distance);
    // Neither is near by distance: `listeners`, `upstream_timeout`.
    let begins = || {
        let is_part = |key: &&&str| key.len() >= 4 && plain.starts_with(**key);
        known.iter().find(is_part).map(|key| (0, *key))
    };
    near.or_else(begins).map(|(_, key)| key)
}

/// `"a"`, `"b"` or `"c"`, for words in a sentence.
pub(super) fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

/// The words in order, after a colon; several lines if they are many.
fn list(known: &[&str]) -> String {
    const WIDTH: usize = 80;
    let mut known = known.to_vec();
    known.sort_unstable();
    let mut lines: Vec<String> = vec![String::new()];
    for word in known {
        let is_full = lines
            .last()
            .is_some_and(|line| line.len() + word.len() + 4 > WIDTH);
        if is_full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(&format!("`{word}`, "));
        }
    }
    let text = lines
        .iter()
        .map(|line| line.trim_end())
        .collect::<Vec<_>>()
        .join("\n");
    let gap = if lines.len() > 1 { '\n' } else { ' ' };
    format!(":{gap}{}", text.trim_end_matches(','))
}

/// Edits (insert, remove, replace, swap neighbours) from one word to another.
fn distance(a: &str, b: &str) -> usize {
    // Words of a configuration are short; what is not one is far from all of them.
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let replace = at(&last, j) + usize::from(x != y);
            let mut best = replace.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let is_swap = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if is_swap {
                best = best.min(at(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = [
            "address",
            "heartbeat",
            "heartbeat_form",
            "idle_timeout",
            "path",
            "upstream",
        ];
        for (word, meant) in [
            ("heartbeet", Some("heartbeat")),
            ("haertbeat", Some("heartbeat")),
            ("Heartbeat", Some("heartbeat")),
            ("idle-timeout", Some("idle_timeout")),
            ("idletimeout", Some("idle_timeout")),
            ("upstreams", Some("upstream")),
            ("url", Some("upstream")),
            ("keep_alive", Some("heartbeat")),
            ("pth", Some("path")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("ab", "ba", 1),
            ("path", "paths", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
