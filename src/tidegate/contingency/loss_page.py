"""The back-test as a page: the model beside what was published, each with its error, and what that means."""

from __future__ import annotations

from html import escape
from typing import Any

from tidegate.contingency.loss import QUANTILE, published_return, spread
from tidegate.contingency.loss_data import SOURCE
from tidegate.contingency.page import page

Json = dict[str, Any]
WIDTH, ROW, LEFT = 640, 46, 170


def millions(usd: float) -> str:
    """Write dollars for people."""
    return f"{usd / 1e9:,.2f} bn" if abs(usd) >= 1e9 else f"{usd / 1e6:,.1f} m" if abs(usd) >= 1e5 else f"{usd:,.0f}"


def back_test_page(rows: list[Json]) -> str:
    """Give the page (HTML)."""
    back = published_return()
    cells = "".join(
        f"<tr><td>{escape(row['name'])}</td><td class=n>{millions(row['published_usd'])}</td>"
        f"<td class=n>{millions(row['model_usd'])}</td><td class=n>{row['error']:+.1%}</td>"
        f"<td>{escape(row['how'])}</td><td class=n>{_held_out(row)}</td></tr>"
        for row in rows
    )
    body = f"""<h1>How good the loss model is</h1>
<p class=soft>US dollars. Held against {escape(SOURCE)}.</p>
{_picture(rows)}
<table><tr><th>sum</th><th class=n>published</th><th class=n>model</th><th class=n>error</th><th>what the row shows</th>
<th class=n>predicted from the other sectors</th></tr>{cells}</table>
<h2>What this means</h2>
<p>The sectors' rates are <b>fitted</b> on the first rows, so their small error shows only that the sums add up. The
honest test is the last column: a sector whose own figure is left out and predicted from the others is wrong by up to
<b>{_worst(rows)}</b>. So use a sector's own rate, or your own figures; do not carry one sector's rate to another.</p>
<p>One airline's own figure is known. It lost <b>{_factor(rows)} times</b> what the mean airline of the published sums
lost. With one such observation, the range that holds {QUANTILE:.0%} of single companies spans a factor of
{2.718281828 ** (2 * 1.6449 * spread()):,.0f} from its lower to its upper end. It is that wide because nothing
published makes it narrower.</p>
<p>Services are taken to come back as hospitals' did: half within {back.median_h:.1f} h, {back.back_by(6):.0%} within
6 h, {back.back_by(48):.0%} within 48 h, {back.mean_h:.1f} h on average. That 48 h figure is an assumption:
published is only that some took longer. Losses are taken to grow in proportion to hours and devices,
which is false for the first minutes and for outages of weeks.</p>"""
    return page("How good the loss model is", body)


def _held_out(row: Json) -> str:
    if row["held_out_usd"] is None:
        return ""
    return f"{millions(row['held_out_usd'])} ({row['held_out_error']:+.0%})"


def _worst(rows: list[Json]) -> str:
    worst = max((abs(row["held_out_error"]) for row in rows if row["held_out_error"] is not None), default=0.0)
    return f"{worst:.0%}"


def _factor(rows: list[Json]) -> str:
    row = next(row for row in rows if row["name"] == "one airline")
    return f"{row['published_usd'] / row['model_usd']:.1f}"


def _picture(rows: list[Json]) -> str:
    """Draw published (dot) and modelled (line with its range) losses on a logarithmic scale."""
    import math

    low = math.floor(math.log10(min(row["range_usd"][0] for row in rows)))
    high = math.ceil(math.log10(max(row["range_usd"][1] for row in rows)))

    def x(usd: float) -> float:
        return LEFT + (math.log10(usd) - low) / (high - low) * (WIDTH - LEFT - 20)

    height = ROW * len(rows) + 40
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="published and modelled losses" width="100%">']
    for power in range(low, high + 1):
        at = x(10**power)
        parts.append(f'<line x1="{at:.1f}" y1="10" x2="{at:.1f}" y2="{height - 28}" stroke="#e3e8ed"/>')
        label = f"{10 ** (power - 9):g} bn" if power >= 9 else f"{10 ** (power - 6):g} m"
        parts.append(
            f'<text x="{at:.1f}" y="{height - 10}" font-size="12" text-anchor="middle" fill="#5b6875">{label}</text>'
        )
    for at, row in enumerate(rows):
        y = 30 + at * ROW
        parts.append(f'<text x="0" y="{y + 4}" font-size="13" fill="#16202a">{escape(row["name"])}</text>')
        first, last = x(row["range_usd"][0]), x(row["range_usd"][1])
        parts.append(f'<line x1="{first:.1f}" y1="{y}" x2="{last:.1f}" y2="{y}" stroke="#9db8d6" stroke-width="7"/>')
        parts.append(f'<line x1="{x(row["model_usd"]):.1f}" y1="{y - 9}" x2="{x(row["model_usd"]):.1f}" y2="{y + 9}"'
                     ' stroke="#0b6bcb" stroke-width="3"/>')  # fmt: skip
        parts.append(f'<circle cx="{x(row["published_usd"]):.1f}" cy="{y}" r="5.5" fill="#b3261e"/>')
    parts.append("</svg><p class=soft>Red dot: published. Blue: model, with its range.</p>")
    return "".join(parts)
