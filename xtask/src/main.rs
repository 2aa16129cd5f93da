//! Developer commands: `cargo x help` lists them.
fn main() {}
