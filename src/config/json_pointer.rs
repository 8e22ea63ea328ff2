//! JSON pointers (RFC 6901): a way into a JSON value.

use std::fmt;

/// A way to a member of a JSON value; never to the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer {
    /// As it is written.
    text: String,
    /// The names on the way, without escapes; never empty.
    tokens: Vec<String>,
}

impl JsonPointer {
    /// Reads a pointer; `None` if it does not begin with `/`, or escapes something else than `~` and
    /// `/`.
    pub fn parse(text: &str) -> Option<Self> {
        let tokens = text.strip_prefix('/')?.split('/').map(unescape);
        Some(Self {
            text: text.to_owned(),
            tokens: tokens.collect::<Option<_>>()?,
        })
    }

    /// The names on the way: of a member of an object, or the number of an element of an array.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut unescaped = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut rest = part.chars();
        unescaped.push(match rest.next()? {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        unescaped.push_str(rest.as_str());
    }
    Some(unescaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_its_tokens() {
        for (text, tokens) in [
            ("/", &[""][..]),
            ("/symbol", &["symbol"]),
            ("/a/0/b", &["a", "0", "b"]),
            ("/a~1b/m~0n/~01", &["a/b", "m~n", "~1"]),
            ("//x", &["", "x"]),
        ] {
            let pointer = JsonPointer::parse(text).expect(text);
            assert_eq!(pointer.tokens(), tokens, "{text}");
            assert_eq!(pointer.to_string(), text);
        }
        for text in ["", "symbol", "/a~", "/a~2", "/~/b"] {
            assert_eq!(JsonPointer::parse(text), None, "{text:?}");
        }
    }
}
