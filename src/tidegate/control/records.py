"""A record of a contingency, decided: its digest and a few plain words become an act. Nothing is folded from it."""

from __future__ import annotations

import re
from typing import Any

from tidegate.control.acts import Who
from tidegate.core.errors import BadInput
from tidegate.log.events import Act, Event

KINDS = re.compile(r"(incident|drill|notice|recovery)_[a-z_]{1,30}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN = (str, int, float, bool, type(None))
MOST_WORDS = 300


def enter_record(now_ms: int, by: Who, *, what: Any, body: dict[str, Any]) -> tuple[list[Event], None]:
    """Enter one record.

    Args:
        now_ms: when.
        by: who, and why.
        what: its kind, as `incident_opened` or `drill_run`.
        body: `subject`, `record_sha256`, `line` in the book, and perhaps `result`, a flat object of plain values.

    Raises:
        BadInput: naming what is not as it should be.
    """
    if not isinstance(what, str) or not KINDS.fullmatch(what):
        raise BadInput("what must be a record's kind, as in incident_opened or drill_run")
    if not isinstance(body.get("record_sha256"), str) or not _DIGEST.fullmatch(body["record_sha256"]):
        raise BadInput("record_sha256 must be 64 hexadecimal digits")
    if type(body.get("line")) is not int or not isinstance(body.get("subject"), str):
        raise BadInput("line must be a whole number and subject a text")
    result = body.get("result", {})
    if not isinstance(result, dict) or len(result) > 40 or not all(_is_plain(value) for value in result.values()):
        raise BadInput("result must be a flat object of at most 40 plain values")
    kept = {name: body[name] for name in ("subject", "record_sha256", "line", "result") if name in body}
    return [Act(at_ms=now_ms, what=what, who=by.who, why=by.why, body=kept)], None


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) and len(str(value)) <= MOST_WORDS
