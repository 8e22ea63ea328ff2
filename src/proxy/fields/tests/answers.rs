//! What a client gets of an answer, and trailer fields of both.

use super::*;

#[test]
fn an_answer_goes_on_without_what_was_of_the_connection() {
    let fields = [
        ("connection", "close, x-hop, set-cookie, content-type"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-type", "text/html"),
        ("content-length", "5"),
        ("proxy-authenticate", "Basic"),
        ("server", "origin"),
        ("date", "then"),
        ("trailer", "x-sum, content-length"),
        ("via", "1.1 a"),
        ("x_own", "1"),
    ];
    let expected = [
        "content-type: text/html",
        "date: then",
        "server: origin",
        "set-cookie: a=1",
        "set-cookie: b=2",
        "trailer: x-sum",
        "via: 1.1 a, 1.0 ssecast",
        "x_own: 1",
    ];
    assert_eq!(
        answered(200, &Method::GET, &fields).as_deref(),
        Ok(&expected.map(str::to_owned)[..])
    );
}

#[test]
fn an_answer_whose_end_nobody_knows_is_not_believed() {
    for (fields, expected) in [
        (
            &[("content-length", "5"), ("transfer-encoding", "chunked")][..],
            Err(Unusable::BothLengths),
        ),
        (
            &[("transfer-encoding", "gzip, chunked")],
            Err(Unusable::Coding),
        ),
        (&[("transfer-encoding", "gzip")], Err(Unusable::Coding)),
        (
            &[("content-length", "5"), ("content-length", "6")],
            Err(Unusable::Length),
        ),
        (&[("content-length", "-5")], Err(Unusable::Length)),
        (&[("content-length", "5"), ("content-length", "5")], Ok(())),
        (&[("transfer-encoding", "chunked")], Ok(())),
        (&[], Ok(())),
    ] {
        let answered = answered(200, &Method::GET, fields);
        let expected = expected.map(|()| vec!["via: 1.0 ssecast".to_owned()]);
        assert_eq!(answered, expected, "{fields:?}");
    }
}

#[test]
fn an_answer_without_content_has_no_length_but_to_head() {
    for (status, method, length, expected) in [
        (200, Method::HEAD, "5", Some("content-length: 5")),
        (200, Method::HEAD, "x", None),
        (304, Method::GET, "5", None),
        (204, Method::GET, "5", None),
        (204, Method::HEAD, "5", None),
    ] {
        let fields = [("content-length", length), ("transfer-encoding", "chunked")];
        let answered = answered(status, &method, &fields).expect("its end is known");
        let told = answered
            .iter()
            .find(|field| field.starts_with("content-length"));
        assert_eq!(
            told.map(String::as_str),
            expected,
            "{status} {method} {length}"
        );
        assert!(
            !answered
                .iter()
                .any(|field| field.starts_with("transfer-encoding"))
        );
    }
}

#[test]
fn trailers_change_nothing() {
    let trailers = || {
        let names = [
            "grpc-status",
            "content-length",
            "x-forwarded-for",
            "host",
            "x_gateway",
            "x-sum",
        ];
        let fields =
            names.map(|name| (HeaderName::from_static(name), "1".parse().expect("a value")));
        fields.into_iter().collect::<http::HeaderMap>()
    };
    let names = |fields: &http::HeaderMap| {
        let mut names: Vec<String> = fields.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    };
    let mut fields = trailers();
    request_trailers(&mut fields, fuzz::proxy("rewritten"));
    assert_eq!(names(&fields), ["grpc-status", "x-sum"]);
    let mut fields = trailers();
    response_trailers(&mut fields);
    assert_eq!(names(&fields), ["grpc-status", "x-sum", "x_gateway"]);
}
