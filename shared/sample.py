"""The shipped digits at the address that scripts outside this repository import them from."""

from shared.data.sample import sample_digits

__all__ = ["sample_digits"]
