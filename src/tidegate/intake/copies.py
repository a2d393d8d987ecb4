"""One credential used in two places, told by what one device cannot do. Kept in memory, for recent devices alone."""

from __future__ import annotations

from collections import OrderedDict

MOST_DEVICES = 100_000
"""Devices that are watched at a time: those heard last, as those with open leases are."""
RECENT = 16
BOOTS = 4


class _Seen:
    """What one device has said: its highest number, the newest numbers and how their MACs begin, its starts."""

    __slots__ = ("boots", "messages", "top")

    def __init__(self) -> None:
        self.top = -1
        self.messages: dict[int, bytes] = {}
        self.boots: tuple[str, ...] = ()


class CopyWatch:
    """Watches the numbers and starts of devices whose MACs have been verified.

    Two signs are proof, because neither a repeated nor a delayed message shows them:
    two different messages under one number, and a start of the machine that comes back after a later one.
    """

    def __init__(self, most: int = MOST_DEVICES) -> None:
        self._most = most
        self._seen: OrderedDict[int, _Seen] = OrderedDict()

    def see(self, index: int, seq: int, mac: str, boot_id: str = "") -> str:
        """Take note of a message; give the sentence that says what one device cannot do, or nothing.

        Args:
            index: the device's.
            seq: the number of the message.
            mac: of the message, hexadecimal; it stands for the content.
            boot_id: which start of the machine it speaks of, if it says so.
        """
        seen = self._of(index)
        short = bytes.fromhex(mac[:16])
        known = seen.messages.get(seq)
        if known is not None:
            return "" if known == short else f"two different messages carry the number {seq}"
        seen.messages[seq] = short
        if len(seen.messages) > RECENT:
            del seen.messages[min(seen.messages)]
        if seq < seen.top:
            return ""  # older than what was seen: it may have been under way for long, so its start says nothing
        seen.top = seq
        return _boot(seen, boot_id)

    def _of(self, index: int) -> _Seen:
        seen = self._seen.get(index)
        if seen is None:
            seen = self._seen[index] = _Seen()
            if len(self._seen) > self._most:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(index)
        return seen


def _boot(seen: _Seen, boot_id: str) -> str:
    if not boot_id or (seen.boots and seen.boots[-1] == boot_id):
        return ""
    if boot_id in seen.boots:
        seen.boots = (boot_id,)
        return "it speaks from a start of the machine that had been followed by another"
    seen.boots = (*seen.boots[-BOOTS + 1 :], boot_id)
    return ""
