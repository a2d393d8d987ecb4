"""The gate's report as one HTML page that needs nothing else, for a person who wants to see why."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, select_autoescape


def page(report: dict[str, Any]) -> str:
    """Write the page. All that comes from the content is escaped."""
    text = files("tidegate.gate").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=select_autoescape(default=True, default_for_string=True), trim_blocks=True)
    environment.filters["figure"] = _figure
    longest = max((check["took_s"] for check in report["checks"]), default=0.0) or 1.0
    return environment.from_string(text).render(r=report, longest=longest)


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_figure(each)}" for name, each in value.items())  # pyright: ignore
    if isinstance(value, list):
        return ", ".join(_figure(each) for each in value) or "none"  # pyright: ignore
    return str(value)
