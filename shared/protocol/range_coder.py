"""A binary range coder, which converts bits with their probabilities to bytes and back.

The method is that of Martin, "Range encoding: an algorithm for removing redundancy from a digitised
message" (1979), in the binary form of LZMA: a range of 32 bits, probabilities of 16 bits, output in
whole bytes. The end is the shortest number within the last range. The decoder knows its length, so
it refuses payloads that are truncated, extended or encoded differently. This is the reference for
the compiled coder (``shared/packed/native/coder.cpp``), which gives the same bytes.
"""

from __future__ import annotations

WORD_BITS = 32
LEAST_RANGE = 1 << 24
WORD = 1 << WORD_BITS
TAIL_BYTES = 4


def _shortest_tail(low: int, width: int) -> tuple[int, int]:
    """Return the number in [low, low + width) with the fewest non-zero bytes, and how many."""
    last = low + width - 1
    for count in range(TAIL_BYTES):
        spare = WORD_BITS - 8 * count
        value = last >> spare << spare
        if value >= low:
            return value, count
    return last, TAIL_BYTES


class RangeEncoder:
    """Encodes bits with their probabilities to bytes."""

    def __init__(self) -> None:
        self._low = 0  # all digits so far; Python's integers handle carries
        self._shifted = 0
        self._range = WORD - 1

    def put(self, bit: bool, probability: int) -> None:
        """Encode one bit that is 1 with probability ``probability`` / 65536."""
        bound = (self._range >> 16) * probability
        if bit:
            self._range = bound
        else:
            self._low += bound
            self._range -= bound
        while self._range < LEAST_RANGE:
            self._low <<= 8
            self._range <<= 8
            self._shifted += 1

    def finish(self) -> bytes:
        """Return the bytes of all bits."""
        value, count = _shortest_tail(self._low, self._range)
        return (value >> (WORD_BITS - 8 * count)).to_bytes(self._shifted + count, "big")


class RangeDecoder:
    """Decodes bits from bytes by their probabilities; reads zeros after the end."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._read = TAIL_BYTES
        self._low = 0  # the last word of the encoder's digits
        self._range = WORD - 1
        self._ahead = int.from_bytes(payload[:TAIL_BYTES].ljust(TAIL_BYTES, b"\0"), "big")

    def get(self, probability: int) -> bool:
        """Decode the next bit, which is 1 with probability ``probability`` / 65536."""
        bound = (self._range >> 16) * probability
        bit = self._ahead < bound
        if bit:
            self._range = bound
        else:
            self._low = (self._low + bound) % WORD
            self._ahead -= bound
            self._range -= bound
        while self._range < LEAST_RANGE:
            digit = self._payload[self._read] if self._read < len(self._payload) else 0
            self._ahead = (self._ahead << 8 | digit) % WORD
            self._low = (self._low << 8) % WORD
            self._range <<= 8
            self._read += 1
        return bit

    @property
    def too_short(self) -> bool:
        """Whether more bytes are missing than an encoder leaves out."""
        return self._read > len(self._payload) + TAIL_BYTES

    def finished(self) -> bool:
        """Whether the payload is exactly the encoding of the bits that were read."""
        value, count = _shortest_tail(self._low, self._range)
        right_length = self._read - TAIL_BYTES + count == len(self._payload)
        return right_length and self._ahead == value - self._low
