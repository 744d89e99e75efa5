//! The checkers, one file each, named as in shared/faults.md.

pub mod d1;
pub mod d11;
pub mod d12;
pub mod d13;
pub mod d2;
pub mod d3;
pub mod d4;
pub mod d5;
pub mod d6;
pub mod d7;
pub mod d8;
pub mod d9;
pub mod l1;
pub mod l2;
pub mod l3;
pub mod l4;
pub mod l6;
pub mod s1;
pub mod s3;
pub mod s4;
pub mod s5;
pub mod s7;
pub mod s9;
