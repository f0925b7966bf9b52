"""The split-inference protocol."""
