//! Whatever comes.

use proptest::prelude::*;

use super::*;

/// Names that mean something, and such that only look so.
const NAMES: &str = "(host|connection|content-length|transfer-encoding|te|trailer|x-forwarded-for|\
                     forwarded|x_forwarded_for|x-real-ip|via|cookie|authorization|content-type|upgrade|\
                     keep-alive|proxy|x-gateway|x_gateway|x-own|user-agent|max-forwards|content_length)";

proptest! {
    #[test]
    fn whatever_comes_what_goes_is_ours(
        choices: u8,
        target in "(/[a-z./%2]{0,8}|http://[a-z:@]{1,6}/)",
        fields in prop::collection::vec((NAMES, "([a-z0-9 ,;=\":.-]{0,12}|chunked|a|5|x-own, te)"), 0..8),
    ) {
        let lines = fields.iter().map(|(name, value)| format!("\n{name}: {value}"));
        let text = format!("{}{target}{}", char::from(choices & 0x7f), lines.collect::<String>());
        fuzz_fields(text.as_bytes());
    }

    #[test]
    fn a_path_means_what_it_was_routed_by(
        path in "(/([a/.;%\\\\]|%2[eEfF]|%00|%3[bB]|%5c|\u{e9}){0,12})?(\\?[a%/.]{0,4})?",
        rewritten in "/(api|%61pi)/([a.;%]|%2[eEfF5]){1,5}/x-([a.%]|%2[eEfF5]){1,4}(\\.|%2e)json/([a/.;]|%2[eEfF]){0,8}",
    ) {
        fuzz_path(path.as_bytes());
        fuzz_path(rewritten.as_bytes());
    }
}
