//! What the fuzzer asserts, with programs by chance.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::fuzz_ids;

proptest! {
    #[test]
    fn no_id_leads_to_a_guess(program in vec(prop_oneof![any::<u8>(), 0u8..8], 0..300)) {
        fuzz_ids(&program);
    }
}
