//! Binary frames of MegaBot.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| roundtable_fuzz::play::packed(data));
