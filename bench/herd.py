"""8.5 million devices that come back after an outage of an hour, spread by the agents' own back-off, with the picture.

A simulation, so no speed: the same on every machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench._scale_page import put, table
from bench.rows import Row
from tidegate.sim.compare_plot import AMBER, BLUE, HARM, INK
from tidegate.sim.herd import Herd, Ints, Returned, come_back

FLEET, SERVES_PER_S, ONE_CORE_PER_S = 8_500_000, 15_000, 6_000
BEFORE_S, AFTER_S = 600, 1800
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "herd.svg"


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Let the fleet, or a tenth of it against a tenth of the server, come back; `full` and `write` take the whole."""
    part = 1 if full or write else 10
    herd = Herd(FLEET // part, serves_per_s=SERVES_PER_S // part)
    shipped, fixed = come_back(herd), come_back(replace(herd, wait="interval"))
    slow = come_back(replace(herd, serves_per_s=ONE_CORE_PER_S // part))
    doubling = come_back(replace(herd, wait="doubling"))
    if write:
        _draw(shipped, slow, fixed)
        put("herd", _table(shipped, slow, fixed, doubling))
    name, takes = f"herd of {herd.devices:,}", f"{herd.serves_per_s:,}/s, which the server takes"
    least_s = herd.devices / herd.serves_per_s
    return [
        Row(f"{name}: requests in its worst second", shipped.worst, "requests/s", takes, herd.serves_per_s),
        Row("asking every minute instead, the same", fixed.worst, "requests/s", takes, herd.serves_per_s),
        Row("doubling without chance instead, the same", doubling.worst, "requests/s", takes, herd.serves_per_s),
        Row(f"{name}: requests for each device", shipped.came.sum() / herd.devices, "requests", "one", 1),
        Row("asking every minute instead, the same", fixed.came.sum() / herd.devices, "requests", "one", 1),
        Row(f"{name}: until 99 of 100 were served", shipped.served_by_s(0.99), "s", "the server's time", least_s),
        Row("until all were served", shipped.all_served_s, "s", "the server's time", least_s),
        Row("doubling without chance instead, the same", doubling.all_served_s, "s", "the server's time", least_s),
        Row(f"a server that takes {ONE_CORE_PER_S // part:,}/s: until all were served", slow.all_served_s, "s",
            "the server's time", herd.devices / (ONE_CORE_PER_S // part)),
    ]  # fmt: skip


def _table(shipped: Returned, slow: Returned, fixed: Returned, doubling: Returned) -> str:
    rows = (
        (f"agents as shipped, server takes {SERVES_PER_S:,} a second", shipped),
        (f"agents as shipped, server takes {ONE_CORE_PER_S:,} a second", slow),
        (f"asking every minute, {SERVES_PER_S:,} a second", fixed),
        (f"doubling without chance, {SERVES_PER_S:,} a second", doubling),
    )
    return table(
        ("", "worst second", "requests for each device", "99 of 100 served after", "all served after"),
        [
            (
                what,
                f"{found.worst:,}",
                f"{found.came.sum() / FLEET:.2f}",
                f"{found.served_by_s(0.99) / 60:.0f} min",
                f"{found.all_served_s / 60:.0f} min",
            )
            for what, found in rows
        ],
    )


def _draw(shipped: Returned, slow: Returned, fixed: Returned) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    inked = dict.fromkeys(("axes.edgecolor", "text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    mpl.rcParams.update({"svg.hashsalt": "tidegate", "svg.fonttype": "path", "font.size": 10, **inked})
    from matplotlib import pyplot as plt

    figure, places = plt.subplots(3, 1, figsize=(9, 8.4), sharex=True, constrained_layout=True)
    shown = (
        (shipped, SERVES_PER_S, f"agents as shipped, server takes {SERVES_PER_S:,} a second"),
        (slow, ONE_CORE_PER_S, f"agents as shipped, server takes {ONE_CORE_PER_S:,} a second, about one core"),
        (fixed, SERVES_PER_S, "if agents asked every minute, and the server could answer all (another scale)"),
    )
    for place, (found, takes, title) in zip(places, shown, strict=True):
        _panel(place, found, takes)
        place.set_title(title, fontsize=11, loc="left", fontweight="bold")
        place.set_ylabel("requests a second")
        place.yaxis.set_major_formatter(lambda value, _place: f"{value:,.0f}")
        place.spines[["top", "right"]].set_visible(False)
        end_min = found.all_served_s / 60
        place.annotate(
            f"all served after {end_min:.0f} min",
            (end_min, 0),
            xytext=(0, 30),
            textcoords="offset points",
            arrowprops={"arrowstyle": "->", "color": INK},
            ha="left" if end_min < 25 else "right",
        )
    for place in places[:2]:
        place.set_ylim(0, 1.2 * shipped.worst)
    places[2].set_ylim(0, 1.2 * fixed.worst)
    places[0].legend(frameon=False, loc="upper right", ncols=3, fontsize=9)
    places[-1].set_xlabel("minutes since the server is back")
    places[-1].set_xlim(-BEFORE_S / 60, max(AFTER_S, slow.all_served_s * 1.1) / 60)
    figure.savefig(PICTURE, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _panel(place, found: Returned, takes: int) -> None:
    before = _means(found.failed[-BEFORE_S:])
    minutes = [(10 * n - BEFORE_S) / 60 for n in range(len(before))]
    place.fill_between([*minutes, 0], [*before, before[-1]], step="post", color=INK, alpha=0.35, linewidth=0,
                       label="in vain: no server")  # fmt: skip
    served, came = _means(found.served), _means(found.came)
    minutes = [10 * n / 60 for n in range(len(came))]
    place.fill_between(minutes, served, step="post", color=BLUE, linewidth=0, label="served")
    place.fill_between(minutes, came, served, step="post", color=HARM, linewidth=0, label="told to come again")
    place.axhline(takes, color=AMBER, linestyle="--", linewidth=1.2)


def _means(counts: Ints) -> list[float]:
    """Give the mean of each ten seconds."""
    return [float(counts[at : at + 10].mean()) for at in range(0, len(counts), 10)]
