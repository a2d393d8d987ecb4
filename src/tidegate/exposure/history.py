"""Exposure over time: one line of JSON for each change, what is new in it, and whether people have been told."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput

Json = dict[str, Any]
MOST_LINES = 1_000_000


def record_of(analysis: Json, at_s: float, before: Json | None) -> Json:
    """Sum an analysis up, beside what was known before.

    Returns:
        {at_s, digest, devices, services, hhi, hhi_failure_weighted, single_points: {service: [vendors]}, value_at_risk
        (the largest share of the value that one vendor takes), new: [{service, vendor}], gone, told}. `digest` names
        what was found, so that a change of nothing is no change. The first record has nothing new: it is the base.
    """
    points = {name: row["single_points"] for name, row in analysis["services"].items() if row["single_points"]}
    old = _pairs(before["single_points"]) if before else _pairs(points)
    found = {
        "devices": analysis["devices"],
        "services": len(analysis["services"]),
        "hhi": analysis["hhi"],
        "hhi_failure_weighted": analysis["hhi_failure_weighted"],
        "value_at_risk": max((row["loss_share"] for row in analysis["vendors"].values()), default=0.0),
        "pairs": len(analysis["pairs"]),
        "unknown_devices": analysis["unknown"]["vendor"]["devices"],
        "single_points": points,
    }
    new = [{"service": service, "vendor": vendor} for service, vendor in sorted(_pairs(points) - old)]
    gone = [{"service": service, "vendor": vendor} for service, vendor in sorted(old - _pairs(points))]
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return {"at_s": at_s, "digest": digest, **found, "new": new, "gone": gone, "told": not new}


def _pairs(points: dict[str, list[str]]) -> set[tuple[str, str]]:
    return {(service, vendor) for service, vendors in points.items() for vendor in vendors}


def read_history(path: Path) -> list[Json]:
    """Read a history, the oldest first; none yet is an empty one.

    A last line that is cut off is what a power loss leaves: it is no part of the history. A line that says that people
    were told marks the record it names.

    Raises:
        BadInput: for a file that is no history.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    found: list[Json] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
            if "told_of" in row:
                for record in found:
                    record["told"] = record["told"] or record["digest"] == row["told_of"]
            else:
                _ = row["digest"], row["single_points"], row["new"]
                found.append(row)
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path}:{number}: no line of an exposure history") from error
    return found[-MOST_LINES:]


def append_record(path: Path, record: Json) -> None:
    """Append a line, durably. A cut-off line from before is ended first, so that it spoils no other."""
    line = json.dumps(record, sort_keys=True).encode() + b"\n"
    try:
        with path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.truncate(_last_end(path))
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error


def _last_end(path: Path) -> int:
    data = path.read_bytes()
    return data.rfind(b"\n") + 1
