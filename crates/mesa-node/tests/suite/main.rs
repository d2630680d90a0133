//! The tests of mesa-node, in one binary: linking is what takes long.
