//! Sessions of one dialect.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    roundtable_fuzz::play::run(roundtable_dialects::session::Dialect::Aiwm, data);
});
