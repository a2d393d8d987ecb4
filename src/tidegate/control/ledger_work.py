"""When the ledger's files are written: beside the controller's work, or before it goes on."""

from __future__ import annotations

import asyncio

from tidegate.control.ledger import Ledger


class LedgerWork:
    """Has one ledger written in a thread, once at a time."""

    def __init__(self, ledger: Ledger | None) -> None:
        """Without a ledger nothing is written."""
        self._ledger = ledger
        self._writing: asyncio.Future[None] | None = None

    async def write(self, *, beside: bool = False) -> None:
        """Put what has become durable into the ledger.

        `beside` lets it go on beside the next batches: to sync its files takes longer than reports should wait.
        """
        if self._writing is not None:
            if beside and not self._writing.done():
                return
            await self._writing
            self._writing = None
        if self._ledger is not None and self._ledger.waiting:
            self._writing = asyncio.ensure_future(asyncio.to_thread(self._ledger.publish))
            if not beside:
                await self._writing
