//! The binary: controller | router | run | check | limits.

fn main() {}
