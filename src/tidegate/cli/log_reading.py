"""Reads the whole log of a control plane on this machine, whether its server runs or not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tidegate.cli.backup_file import read_records
from tidegate.cli.home import Home
from tidegate.cli.office import OfficeClient
from tidegate.core.errors import Untrusted
from tidegate.log.batch import Batch
from tidegate.log.port import Busy


@contextmanager
def log_of(place: Home) -> Iterator[Iterator[tuple[int, Batch]]]:
    """Give the log's records, read when they are asked for: from the server that runs, else from the store itself."""
    try:
        log = place.open_log()
    except Busy:
        office = OfficeClient(place.path)
        with tempfile.TemporaryFile(dir=place.path) as spool:
            yield _of_server(office, spool)
        return
    try:
        yield log.read_batches()
    finally:
        log.close()


def _of_server(office: OfficeClient, spool: Any) -> Iterator[tuple[int, Batch]]:
    expected = office.download("/api/v1/backup/log", spool)
    spool.seek(0)
    first = 1
    for batch in read_records(spool):
        yield first, batch
        first += batch.count
    if first - 1 < expected:
        raise Untrusted(f"the server broke off after event {first - 1} of {expected}; take the backup again")
