"""Evaluate a bundle on a data set with the packed runtime; the result is one HTML page."""
