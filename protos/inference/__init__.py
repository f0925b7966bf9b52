"""The Open Inference Protocol, version 2, and the code generated from it."""
