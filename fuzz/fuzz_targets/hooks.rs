#![no_main]

#[path = "../../tests/fuzz/targets/hooks.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
