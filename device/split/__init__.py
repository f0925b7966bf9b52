"""The library: takes a sample through device half, exit head, codec, link and spool."""
