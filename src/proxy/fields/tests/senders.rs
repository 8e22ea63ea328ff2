//! Whose request it is.

use super::*;

#[test]
fn a_stranger_speaks_for_nobody() {
    let text = "GET /\nhost: a\nx-forwarded-for: 1.1.1.1\nX_Forwarded_For: 1.1.1.1\nx-forwarded-proto: ftp\n\
                x-forwarded-host: evil\nx-forwarded-prefix: /x\nforwarded: for=1.1.1.1\nx-real-ip: 1.1.1.1\n\
                x_real_ip: 1.1.1.1\ntrue-client-ip: 1.1.1.1\nx-original-url: /admin\ncontent_length: 7";
    let hop = hop("plain", STRANGER);
    assert_eq!(sent(text), ["host: a", "via: 1.1 ssecast"]);
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "a"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", ""),
        ("forwarded", "for=192.0.2.1;host=a;proto=https"),
    ] {
        assert_eq!(told(name, text, &hop), value, "{name}");
    }
    let ipv6 = Hop {
        peer: PeerAddr::from("2001:db8::7".parse::<IpAddr>().expect("an address")),
        ..hop
    };
    assert_eq!(told("x-forwarded-for", text, &ipv6), "2001:db8::7");
    assert_eq!(
        told("forwarded", text, &ipv6),
        "for=\"[2001:db8::7]\";host=a;proto=https"
    );
}

#[test]
fn to_a_trusted_proxys_word_ours_is_appended() {
    let trusted = hop("plain", PROXY);
    let text = "GET /\nhost: a\nx-forwarded-for: 1.1.1.1, 192.0.2.9\nx-forwarded-for: 10.0.0.2\n\
                x-forwarded-proto: http\nx-forwarded-host: b.example\nx-real-ip: 192.0.2.9\n\
                x_forwarded_for: 6.6.6.6";
    for (name, value) in [
        ("x-forwarded-for", "1.1.1.1, 192.0.2.9, 10.0.0.2, 10.0.0.1"),
        ("x-forwarded-host", "b.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "80"),
        ("x-real-ip", "192.0.2.9"),
        ("x_forwarded_for", ""),
        (
            "forwarded",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
    ] {
        assert_eq!(told(name, text, &trusted), value, "{name}");
    }
    let text = "GET /\nhost: a\nforwarded: for=\"[2001:db8::1]\";proto=http";
    assert_eq!(
        told("forwarded", text, &trusted),
        "for=\"[2001:db8::1]\";proto=http, for=10.0.0.1;host=a;proto=https"
    );
    assert_eq!(
        told("x-forwarded-for", text, &trusted),
        "2001:db8::1, 10.0.0.1"
    );
    let socket = Hop {
        peer: PeerAddr::Unix,
        ..trusted
    };
    assert_eq!(told("x-forwarded-for", text, &socket), "2001:db8::1");
    assert_eq!(
        told("forwarded", text, &socket),
        "for=\"[2001:db8::1]\";proto=http, for=unknown;host=a;proto=https"
    );
}

#[test]
fn what_a_client_wrote_through_a_trusted_proxy_is_not_its_word() {
    let trusted = hop("plain", PROXY);
    for (forged, value) in [
        // It appended to the one, and let the other through.
        (
            "for=1.1.1.1",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
        (
            "for=1.1.1.1, for=10.0.0.3",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
        // What we append must not be in somebody's quotes.
        (
            "for=192.0.2.9;by=\"",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
        (
            "for=192.0.2.9;by=\"\\",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
        // Both say the same: it appended to both.
        (
            "for=192.0.2.9;by=\"\\\"\"",
            "for=192.0.2.9;by=\"\\\"\", for=10.0.0.1;host=a;proto=https",
        ),
    ] {
        let text = format!("GET /\nhost: a\nx-forwarded-for: 192.0.2.9\nforwarded: {forged}");
        assert_eq!(told("forwarded", &text, &trusted), value, "{forged}");
    }
}
