"""Split binary networks: architectures, training, export and evaluation of bundles."""
