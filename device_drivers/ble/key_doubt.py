"""Tells a wrong bindkey from damage and forgery, which fail the same integrity check. No clock, no log."""

# Radios check every packet (CRC-24) before they report it, so that damage that reaches a decoder is rare: several in
# a row, with nothing in between that was right, is the key.
FAILURES_IN_A_ROW = 3


class KeyDoubt:
    """Of one device. Asked only for packets that differ: one that is repeated fails for one reason."""

    def __init__(self) -> None:
        self._in_a_row = 0

    @property
    def wrong(self) -> bool:
        return self._in_a_row >= FAILURES_IN_A_ROW

    def failed(self) -> bool:
        """Notes a packet whose head is sound and whose check fails; whether this one made the key wrong."""
        self._in_a_row += 1
        return self._in_a_row == FAILURES_IN_A_ROW

    def passed(self) -> None:
        """Notes a packet that the key opened."""
        self._in_a_row = 0
