//! bine
