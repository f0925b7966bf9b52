"""The library: one sample goes through device half, exit head, codec, link and spool."""
