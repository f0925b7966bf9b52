"""The shipped digits, under the name by which scripts outside of this repository import them."""

from shared.data.sample import sample_digits

__all__ = ["sample_digits"]
