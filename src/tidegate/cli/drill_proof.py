"""A drill's result in the test fleet's own ledger, with the proof that it is there: three small files."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from tidegate.cli.demo_stage import Stage
from tidegate.cli.ledger_home import open_ledger
from tidegate.cli.office import OfficeClient
from tidegate.contingency.drill import flat
from tidegate.core.errors import TidegateError
from tidegate.core.wire import canonical
from tidegate.trust.ledger import directory_fetch
from tidegate.trust.ledger_proof import EntryProof
from tidegate.trust.ledger_read import LedgerReader

PATIENCE_S = 10.0


def prove_in(stage: Stage, office: OfficeClient, result: dict[str, Any]) -> dict[str, bytes]:
    """Enter a result there and fetch its proof; nothing where the control plane did not come back."""
    digest = hashlib.sha256(canonical(result)).hexdigest()
    told = {"subject": result["drill"], "record_sha256": digest, "line": 0, "result": flat(result)}
    ledger = open_ledger(stage.home)
    try:
        office.post("/api/v1/records", {"what": "drill_run", **told}, "drill")
    except TidegateError:
        return {}
    assert ledger is not None, "a stage's control plane has a ledger"
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            reader = LedgerReader(directory_fetch(stage.home.repository / "ledger"), ledger.key)
            for index, entry in reader.tiles.entries():
                if json.loads(entry).get("record_sha256") == digest:
                    text, proof = reader.prove(index)
                    tlog = EntryProof(index, tuple(proof), reader.note).data()
                    key = (ledger.key.text() + "\n").encode()
                    return {"result.json": text, "result.tlog-proof": tlog, "ledger.key": key}
        except TidegateError:
            pass
        time.sleep(0.2)
    return {}
