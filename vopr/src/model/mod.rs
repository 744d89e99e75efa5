//! The model: what serval must do, written from the Gateway API's text, naive and slow, with types
//! of its own. It shares no code with the product.

pub mod certificates;
pub mod lookup;
pub mod object;
pub mod placing;
pub mod room;
pub mod roster;
pub mod secret;
pub mod table;
pub mod timeouts;
pub mod verdicts;
