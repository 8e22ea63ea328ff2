//! How long a request says that it is.

use super::*;

#[test]
fn a_length_is_said_anew() {
    for (fields, content, length) in [
        ("content-length: 5", Content::Known(5), "5"),
        (
            "content-length: 5\ncontent-length: 5",
            Content::Known(5),
            "5",
        ),
        ("content-length: 5, 5", Content::Known(5), "5"),
        ("content-length: 0", Content::None, "0"),
        ("x: y", Content::None, ""),
        ("transfer-encoding: Chunked", Content::Unknown, ""),
        ("transfer-encoding: chunked", Content::None, ""),
    ] {
        let sent = posted(fields, content).unwrap_or_else(|refused| panic!("{fields}: {refused}"));
        let told = sent
            .headers
            .get("content-length")
            .map(|value| value.to_str().expect("text"));
        assert_eq!(told.unwrap_or_default(), length, "{fields}");
        let is_chunked = content == Content::Unknown;
        assert_eq!(
            sent.headers.contains_key("transfer-encoding"),
            is_chunked,
            "{fields}"
        );
    }
}

#[test]
fn a_length_is_one_number_and_that_of_the_body() {
    for (fields, content, why) in [
        (
            "content-length: 5\ncontent-length: 6",
            Content::Known(5),
            Refused::Length,
        ),
        ("content-length: 5, 6", Content::Known(5), Refused::Length),
        ("content-length: 6", Content::Known(5), Refused::Length),
        ("content-length: +5", Content::Known(5), Refused::Length),
        ("content-length:", Content::None, Refused::Length),
        ("content-length: 0x5", Content::Known(5), Refused::Length),
        ("content-length: 5", Content::None, Refused::Length),
        ("content-length: 5", Content::Unknown, Refused::Length),
        (
            "content-length: 99999999999999999999",
            Content::Unknown,
            Refused::Length,
        ),
        (
            "content-length: 5\ntransfer-encoding: chunked",
            Content::Unknown,
            Refused::Length,
        ),
        (
            "transfer-encoding: gzip, chunked",
            Content::Unknown,
            Refused::Coding,
        ),
        (
            "transfer-encoding: chunked, chunked",
            Content::Unknown,
            Refused::Coding,
        ),
        (
            "transfer-encoding: identity\ntransfer-encoding: chunked",
            Content::Unknown,
            Refused::Coding,
        ),
        (
            "transfer-encoding: xchunked",
            Content::Unknown,
            Refused::Coding,
        ),
        ("transfer-encoding:", Content::None, Refused::Coding),
    ] {
        let refused = posted(fields, content).expect_err(fields);
        assert!(refused == why && refused.closes(), "{fields}: {refused}");
    }
}
