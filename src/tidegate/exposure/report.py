"""The report for the board: one HTML file with its pictures inside, nothing fetched, no scripts, good on paper."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from tidegate.exposure.analyse import analyse
from tidegate.exposure.estate import Estate
from tidegate.exposure.graph import service_graph
from tidegate.exposure.heat import heat_map
from tidegate.exposure.suggest import suggest
from tidegate.exposure.trend import trend_picture

GRAPHS, ROWS = 3, 12
_SIGNATURE = re.compile(r"<!-- signature\n(.*)-->\n\Z", re.DOTALL)
_ONE_SIZE = re.compile(r' width="(\d+)" height="\d+" role')


def board_report(estate: Estate, made_s: float, budget: int, history: list[dict[str, Any]]) -> str:
    """Write the report.

    Args:
        estate: what is reported on.
        made_s: when, Unix seconds.
        budget: devices that the suggestion may move.
        history: as `read_history` gives it; empty for no trend.
    """
    before, plan = analyse(estate), suggest(estate, budget)
    after = analyse(plan.after or estate)
    values = estate.values()
    vendors = set(before["vendors"])
    alone = {name: [v for v in row["single_points"] if v in vendors] for name, row in before["services"].items()}
    worst = sorted((name for name in alone if alone[name]), key=lambda name: (-values[name], name))
    ranked = sorted(before["vendors"].items(), key=lambda pair: (-pair[1]["loss_share"], -pair[1]["devices"], pair[0]))
    maps = [("today", before)] + ([(f"after moving {plan.moved:,} devices", after)] if plan.moved else [])
    environment = jinja2.Environment(autoescape=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(files("tidegate.exposure").joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        source=estate.source.rpartition("/")[2],
        made=datetime.fromtimestamp(made_s, UTC).strftime("%d %B %Y, %H:%M UTC"),
        before=before,
        after=after,
        plan=plan,
        worst=[(name, alone[name], values[name]) for name in worst[:ROWS]],
        worst_count=len(worst),
        ranked=ranked[:ROWS],
        top=ranked[0] if ranked else None,
        pairs=before["pairs"][:ROWS],
        valued=any(service.value_per_h is not None for service in estate.services.values()),
        heat=_picture(heat_map(maps)),
        graphs=[_picture(service_graph(estate, name, alone[name][:1])) for name in worst[:GRAPHS]],
        trend=_picture(trend_picture(history)) if history else None,
    )


def _picture(svg: str) -> Markup:
    """Take a picture of ours into a page, where it shrinks with the paper."""
    return Markup(_ONE_SIZE.sub(r' style="width:\1px;max-width:100%;height:auto" role', svg, count=1))


def digest_text(page: str) -> str:
    """Give the text that is signed: what it is, and the digest of the page."""
    return f"tidegate exposure report\nsha256 {hashlib.sha256(page.encode()).hexdigest()}\n"


def with_signature(page: str, note: str) -> str:
    """Put a signed note behind the page, where a browser does not show it."""
    return f"{page}<!-- signature\n{note}-->\n"


def split_signature(text: str) -> tuple[str, str]:
    """Take a signed report apart: the page, and the note, which is empty where there is none."""
    found = _SIGNATURE.search(text)
    return (text, "") if found is None else (text[: found.start()], found[1])
