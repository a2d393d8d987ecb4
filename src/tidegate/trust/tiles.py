"""Where the parts of a tile log lie and how they read (C2SP tlog-tiles): hash tiles, entry bundles, partial ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.trust.merkle import leaf_hash, node_hash

WIDTH = 256
HASH = 32
MOST_ENTRY = 65_535
"""Bytes of one entry: its length is written in two."""

Fetch = Callable[[str], bytes]
"""Gives a file by its path below the log's address. Raises NotFound where there is none."""


def tile_path(level: int, number: int, width: int = WIDTH) -> str:
    """Where hash tile `number` of a level lies; one of fewer than 256 hashes is partial."""
    return f"tile/{level}/{_number(number)}{_part(width)}"


def entries_path(number: int, width: int = WIDTH) -> str:
    """Where the entries of the leaves of a tile of level 0 lie."""
    return f"tile/entries/{_number(number)}{_part(width)}"


def _number(number: int) -> str:
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


def _part(width: int) -> str:
    return "" if width == WIDTH else f".p/{width}"


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """Write entries as a bundle: each after its length in two bytes, big-endian. Raises BadInput for one too long."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MOST_ENTRY:
            raise BadInput(f"a ledger entry may have {MOST_ENTRY:,} bytes, and this has {len(entry):,}")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def unpack_entries(bundle: bytes) -> list[bytes]:
    """Read a bundle. Raises Untrusted if it ends in the middle of an entry."""
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if at + 2 > len(bundle) or end > len(bundle):
            raise Untrusted("an entry bundle of the ledger is cut short")
        entries.append(bundle[at + 2 : end])
        at = end
    return entries


def fold_hashes(hashes: Sequence[bytes]) -> bytes:
    """Give the root over a power of two of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


class TileReader:
    """Reads nodes and entries of the tree of `size` leaves. What it reads is not trusted until a proof has held."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        """Read with `fetch`; tiles are kept, so that many proofs cost few files."""
        self._fetch, self.size = fetch, size
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """Give the hash of a complete subtree. Raises NotFound or Untrusted for a tile that is missing or short."""
        tile_level, inside = divmod(level, 8)
        start = index << inside
        number, offset = divmod(start, WIDTH)
        return fold_hashes(self._tile(tile_level, number)[offset : offset + (1 << inside)])

    def _tile(self, level: int, number: int) -> list[bytes]:
        found = self._tiles.get((level, number))
        if found is None:
            width = min((self.size >> (8 * level)) - number * WIDTH, WIDTH)
            if width <= 0:
                raise Untrusted("a proof reaches beyond the ledger")
            data = self._get(tile_path(level, number, width), tile_path(level, number))
            if len(data) < width * HASH:
                raise Untrusted(f"tile {tile_path(level, number, width)} of the ledger is cut short")
            found = [data[i * HASH : (i + 1) * HASH] for i in range(width)]
            self._tiles[level, number] = found
        return found

    def bundle(self, number: int) -> list[bytes]:
        """Give the entries of one bundle, each held against the leaf hash of its tile.

        Raises:
            NotFound, Untrusted: for one that is missing, short or not what the tile says.
        """
        width = min(self.size - number * WIDTH, WIDTH)
        entries = unpack_entries(self._get(entries_path(number, width), entries_path(number)))[:width]
        hashes = self._tile(0, number)
        if len(entries) != width:
            raise Untrusted(f"bundle {entries_path(number, width)} of the ledger has {len(entries)} of {width} entries")
        for offset, (entry, known) in enumerate(zip(entries, hashes, strict=True)):
            if leaf_hash(entry) != known:
                raise Untrusted(f"entry {number * WIDTH + offset} of the ledger was edited: its hash is another")
        return entries

    def entries(self, start: int = 0) -> Iterable[tuple[int, bytes]]:
        """Give the entries from `start`, with their places."""
        for number in range(start // WIDTH, -(-self.size // WIDTH)):
            for offset, entry in enumerate(self.bundle(number)):
                if number * WIDTH + offset >= start:
                    yield number * WIDTH + offset, entry

    def _get(self, path: str, full: str) -> bytes:
        try:
            return self._fetch(path)
        except NotFound:
            if path == full:
                raise
        return self._fetch(full)  # a partial tile may be gone once the full one is there
