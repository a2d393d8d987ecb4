"""One rollout as a live picture for the terminal: every device, the budget, the verdict and its sentence."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from tidegate.cli.show import LIGHT
from tidegate.core.printable import all_printable

MARKS: dict[str, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "late": ("…", "dim"),
    "placebo": ("○", "cyan"),
    "applying": ("◐", "yellow"),
    "confirmed": ("●", "green"),
    "reverted": ("◀", "red"),
    "silent": ("✕", "bold red"),
}
MOST_MARKS = 400
BAR = 24
CURE = "; if they lie: tidegate device quarantine --group {group} --why ..."


def rollout_panel(found: dict[str, Any], title: str = "") -> Panel:
    """Draw a rollout as `GET /api/v1/rollouts/NAME?devices=1` gives it."""
    found = all_printable(found)
    lines: list[RenderableType] = []
    where = found.get("where", [])
    if where and len(where) <= MOST_MARKS:
        lines.append(_marks(where))
        lines.append(_legend())
    lines.append(_counts(found))
    lines.append(_budget(found))
    verdict = Text(f"{found['phase']}", style=f"bold {LIGHT.get(found['phase'], '')}")
    verdict.append(f"  {found['sentence']}", style="not bold default")
    lines.append(verdict)
    lines += [Text(cluster["sentence"] + CURE.format(**cluster), style="yellow") for cluster in found["clusters"][:3]]
    if found["spill"]:
        lines.append(Text(found["spill"]["sentence"], style="yellow"))
    if found["set_aside"]:
        lines.append(Text(f"{found['set_aside']:,} devices are quarantined: their reports are set aside", style="dim"))
    if found.get("speed") and not found["ended_ms"]:
        lines.append(Text(found["speed"]["sentence"], style="dim"))
    head = title or f"{found['component']} {found['release']['version']}"
    return Panel(Group(*lines), title=Text(f"{head} · rollout {found['rollout']}"), title_align="left")


def _marks(where: list[dict[str, Any]]) -> Text:
    text = Text()
    for entry in where:
        mark, style = MARKS[entry["standing"]]
        text.append(mark + " ", style=style)
    return text


def _legend() -> Text:
    entries = (Text(f"{mark} {name}", style=style) for name, (mark, style) in MARKS.items() if name != "late")
    return Text("  ").join(entries)


def _counts(found: dict[str, Any]) -> Text:
    figures = (
        ("ring", f"{found['ring']} of {found['rings']}", ""),
        ("exposed", found["exposed"], "yellow"),
        ("confirmed", found["confirmed"], "green"),
        ("reverted", found["reverted"], "red"),
        ("silent", found["silent"], "bold red"),
        ("placebo now", found["placebo"]["pending"], "cyan"),
        ("never exposed", found["never_exposed"], "dim"),
    )
    return Text(" · ").join(Text(f"{name} {value}", style=style) for name, value, style in figures)


def _budget(found: dict[str, Any]) -> Text:
    budget = found["budget"]
    most, used = budget["max_harmed"], budget["used"]
    at_risk = min(max(budget["at_risk"] - used, 0), max(most - used, 0))
    red = round(BAR * min(used / most, 1))
    yellow = min(round(BAR * at_risk / most), BAR - red)
    text = Text("budget ")
    text.append("█" * red, style="red").append("█" * yellow, style="yellow").append("░" * (BAR - red - yellow), "dim")
    return text.append(f"  {used} failed, {at_risk} open, of {most} that may be harmed")
