"""How a change of an estate is shown: what it frees and what it costs, before beside after, and its picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidegate.cli.show import out, table
from tidegate.core.errors import BadInput
from tidegate.exposure.suggest import Plan


def draw(file: Path | None, picture: Callable[[], str]) -> None:
    """Write a picture if one is asked for. Raises BadInput for what is no .svg file or cannot be written."""
    if file is None:
        return
    if file.suffix != ".svg":
        raise BadInput(f"{file}: pictures are .svg files")
    try:
        file.write_text(picture(), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror or error}") from error


def plan_view(plan: Plan) -> dict[str, Any]:
    """Give a plan of moves as plain values."""
    return {
        "budget": plan.budget,
        "moved": plan.moved,
        "moves": [{"move": move.sentence, "devices": count} for move, count in plan.moves],
        "freed": plan.freed,
        "value_freed": plan.value,
        "value_bound": plan.bound,
        "gap": plan.gap,
        "stuck": plan.stuck,
    }


def say_plan(plan: Plan) -> None:
    """Print a plan of moves."""
    rows = [(move.sentence, f"{count:,}") for move, count in plan.moves]
    empty = f"No move of at most {plan.budget:,} devices frees a service from the failure of a single vendor."
    table("Moves", ("move", "devices"), rows, empty=empty)
    if plan.freed:
        out(
            f"Frees {', '.join(plan.freed)}: value {plan.value:,g} an hour,"
            f" with {plan.moved:,} of {plan.budget:,} devices."
        )
    word = "which is proven best" if plan.gap == 0 else f"so at most {plan.gap:.0%} is left on the table"
    out(f"No plan within the budget can free more than {plan.bound:,g}; {word}.")
    for name, reason in plan.stuck.items():
        out(f"Service {name} cannot be freed by moves: {reason}.")


def say_change(before: dict[str, Any], after: dict[str, Any], moved: int) -> None:
    """Print what is different, before beside after."""
    rows = []
    for name, old in before["services"].items():
        new = after["services"][name]
        if (old["cuts"], old["probability"]) != (new["cuts"], new["probability"]):
            rows.append((name, _state(old), _state(new)))
    table("Services that change", ("service", "before", "after"), rows, empty="No service changes.")
    rows = []
    for name in sorted(before["vendors"].keys() | after["vendors"].keys()):
        old, new = before["vendors"].get(name), after["vendors"].get(name)
        rows.append((name, *_vendor(old), *_vendor(new)))
    columns = ("vendor", "devices before", "value lost before", "devices after", "value lost after")
    table("Vendors", columns, rows, empty="")
    out(
        f"{moved:,} device{' moves' if moved == 1 else 's move'}."
        f" Concentration of shares {before['hhi']:.3f} -> {after['hhi']:.3f},"
        f" of what falls {before['hhi_failure_weighted']:.3f} -> {after['hhi_failure_weighted']:.3f}."
    )


def _vendor(row: dict[str, Any] | None) -> tuple[str, str]:
    return ("-", "-") if row is None else (f"{row['devices']:,}", f"{row['loss_share']:.0%}")


def _state(row: dict[str, Any]) -> str:
    chance = "" if row["probability"] is None else f" (probability {row['probability']:.3g})"
    if row["single_points"]:
        return f"falls with {', '.join(row['single_points'])}{chance}"
    least = min((len(cut) for cut in row["cuts"]), default=0)
    return (f"falls with {least} together" if least else "does not fall") + chance
