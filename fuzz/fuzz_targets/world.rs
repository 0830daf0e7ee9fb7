#![no_main]

#[path = "../../tests/fuzz/targets/world.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
