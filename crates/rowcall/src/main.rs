//! The rowcall binary.
fn main() {}
