"""The description of a model, without torch: architecture, bundle file, packed bits, exits."""
