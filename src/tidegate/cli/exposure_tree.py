"""Fault trees from elsewhere (OpenPSA), solved as they are: counts of minimal cuts, and the exact probability."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidegate.cli.show import out, out_json, table
from tidegate.core.errors import BadInput
from tidegate.exposure.cuts import CutSolver, Limits
from tidegate.exposure.openpsa import read_openpsa

SHOWN = 6


def solve_trees(files: Sequence[Path], limits: Limits, json: bool) -> None:
    """Solve the top gates of OpenPSA files, and print a row for each."""
    if not files:
        raise BadInput("name at least one OpenPSA file")
    found = [row for file in files for row in _solved(file, limits)]
    if json:
        out_json(found)
        return
    rows = [
        (
            row["tree"],
            row["events"],
            _count(row),
            " ".join(f"{order}:{count:,}" for order, count in enumerate(row["by_order"][: SHOWN + 1]) if count) or "-",
            "unknown" if row["probability"] is None else f"{row['probability']:.6g}",
            f"{row['seconds']:.2f}",
        )
        for row in found
    ]
    table("Fault trees", ("tree", "events", "minimal cuts", "by order", "probability", "s"), rows, empty="")
    for row in found:
        for remark in row["not_understood"]:
            out(f"{row['tree']}: not understood: {remark}.")


def _count(row: dict[str, Any]) -> str:
    if row["cut_count"] is not None:
        return f"{row['cut_count']:,}"
    return f"{sum(row['by_order']):,} up to order {row['order_limit']}"


def _solved(file: Path, limits: Limits) -> list[dict[str, Any]]:
    model = read_openpsa(file)
    found = []
    for top in model.tops:
        began = time.perf_counter()
        solver = CutSolver(model.tree, limits)
        cuts = solver.solve(model.tree.tops[top])
        p = None
        if cuts.diagram is not None and set(solver.solver.support(cuts.diagram)) <= model.fails.keys():
            p = solver.solver.probability(cuts.diagram, model.fails)
        name = file.stem if len(model.tops) == 1 else f"{file.stem}/{top}"
        found.append(
            {
                "tree": name,
                "events": len(solver.solver.names),
                "cut_count": cuts.count,
                "by_order": list(cuts.by_order),
                "order_limit": cuts.order_limit if cuts.diagram is None else None,
                "probability": p,
                "seconds": time.perf_counter() - began,
                "not_understood": model.not_understood,
            }
        )
    return found
