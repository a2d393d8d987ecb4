"""`tidegate conformance`: what others demand, what answers it, and the evidence that this installation has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidegate.cli.book import open_book
from tidegate.cli.home import Home, default_home
from tidegate.cli.office import OfficeClient
from tidegate.cli.show import moment, out, out_json, table
from tidegate.contingency.conformance import ANSWERED, GAP, table_rows
from tidegate.contingency.conformance import markdown as page_of
from tidegate.contingency.drill_results import results
from tidegate.contingency.incident import fold
from tidegate.contingency.notice import fold_notices
from tidegate.core.errors import BadInput, TidegateError


def conformance(*, gaps: bool = False, markdown: bool = False, home: Path | None = None, json: bool = False) -> int:
    """Show each demand with what answers it, and this installation's own evidence. Exit code 1 if there are gaps.

    Args:
        gaps: Show what is not answered alone.
        markdown: Print docs/conformance.md, in a checkout of the repository.
        home: The control plane's directory.
        json: Print JSON.
    """
    root = checkout()
    if markdown:
        if root is None:
            raise BadInput("this is an installed package: the page is made in a checkout of the repository")
        print(page_of(root), end="")
        return 0
    found = table_rows(live_evidence(home), root)
    missing = [row for row in found if row["state"] == GAP]
    if json:
        out_json({"rows": found, "gaps": len(missing)})
        return 1 if missing else 0
    shown = [row for row in found if row["state"] != ANSWERED] if gaps else found
    cells = [(row["id"], row["demand"], row["state"], row["command"], row["evidence"]) for row in shown]
    table("Conformance", ("id", "demand", "", "command", "evidence here"), cells, empty="No gaps.")
    out(f"{len(found)} demands, {len(missing)} gaps. A row whose source nobody has read is never claimed.")
    return 1 if missing else 0


def checkout() -> Path | None:
    """Give the repository that this runs from, or None for an installed package."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "tests").is_dir() and (root / "src" / "tidegate").is_dir() else None


def live_evidence(home: Path | None) -> dict[str, str]:
    """Gather what this installation has to show: its book, and its control plane if that runs."""
    found = _from_book(home)
    place = Home(home or default_home())
    if not place.operator_token.is_file():
        return found
    try:
        office = OfficeClient(place.path)
        for name, path, say in _ASKED:
            try:
                words = say(office.get(path))
            except (TidegateError, KeyError, TypeError, IndexError):
                words = ""
            if words:
                found[name] = words
    except TidegateError:
        pass
    return found


def _from_book(home: Path | None) -> dict[str, str]:
    entries = open_book(home).read()
    found: dict[str, str] = {}
    drills = results(entries)
    if drills:
        last = drills[-1]
        verdict = "passed" if last["passed"] else "FAILED"
        found["drill"] = f"last drill {moment(last['at_ms'])}: {last['drill']}, {verdict}"
        found["plans"] = f"{len({one['drill'] for one in drills})} plans drilled"
    incidents = list(fold(entries).values())
    if incidents:
        found["incident"] = f"{incidents[-1].name}, opened {moment(incidents[-1].opened_ms)}"
    notices = [one for one in fold_notices(entries).values() if one.published_ms]
    if notices:
        found["notice"] = f"{notices[-1].name}, approved by {notices[-1].approved_by}"
    return found


def _rollout(value: dict[str, Any]) -> str:
    last = value["rollouts"][-1]
    return f"{last['rollout']}: {last['phase']}, exposed {last['exposed']}, budget {last['budget']['max_harmed']}"


def _release(value: dict[str, Any]) -> str:
    last = value["releases"][-1]
    return f"{last['component']} {last['version'] or last['seq']}, logged {moment(last['logged_ms'])}"


def _policy(value: dict[str, Any]) -> str:
    said = ", ".join(f"{name}: {rule}" for name, rule in value.items() if isinstance(rule, str | int | bool))
    return said[:160]


def _ledger(value: dict[str, Any]) -> str:
    figures = value.get("ledger") or value.get("figures", {}).get("ledger") or {}
    return f"{figures['entries']:,} entries" if "entries" in figures else ""


_ASKED: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("rollout", "/api/v1/rollouts", _rollout),
    ("release", "/api/v1/releases", _release),
    ("policy", "/api/v1/policy", _policy),
    ("ledger", "/api/v1/status", _ledger),
)
