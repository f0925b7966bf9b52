"""Version 1 of the split-inference protocol."""
