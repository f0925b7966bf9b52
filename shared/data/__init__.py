"""Data that ships with the package: 200 real test digits of MNIST, see ``ATTRIBUTION.md``."""
