//! The rules: what may happen in a workspace and what follows from it, without any I/O.
