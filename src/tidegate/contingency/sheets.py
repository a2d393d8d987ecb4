"""The queue on paper: for each technician the devices in order, with steps, boxes to tick and codes to scan."""

from __future__ import annotations

from html import escape
from itertools import islice

from tidegate.contingency.page import page, qr
from tidegate.contingency.queue import Queue

MOST_EACH = 40
DEFAULT_STEPS = ("Do what the plan says for this device.",)


def sheets_page(queue: Queue, now_h: float, address: str = "", tokens: dict[str, str] | None = None) -> str:
    """Give the sheets, one for each technician who has something to do: what is in hand first, then what comes.

    Args:
        queue: as it stands.
        now_h: hours since it began.
        address: of the page that `tidegate recovery serve` gives, for the codes; else the codes hold the command.
        tokens: each technician's own, for the address.
    """
    made = queue.schedule(now_h)
    free = {at: iter(list(queue.open_items(at))) for at in range(len(queue.case.batches))}
    work: dict[int, list[tuple[int, float | None]]] = {}
    for at, technician in enumerate(queue.case.technicians):
        if (held := queue.has(technician.name)) is not None:
            work[at] = [(held, None)]
    for one in made.assignments:
        item = next(free[one.batch], None)
        if item is not None:
            work.setdefault(one.technician, []).append((item, one.start_h))
    parts: list[str] = []
    for at, technician in enumerate(queue.case.technicians):
        mine = work.get(at, [])
        if mine:
            link = f"{address.rstrip('/')}/t/{tokens[technician.name]}" if address and tokens else ""
            parts.append(_sheet(queue, technician.name, mine, link))
    body = "".join(parts) or "<h1>Nothing is left to do</h1>"
    return page(f"Recovery sheets: {queue.name}", body)


def _sheet(queue: Queue, name: str, mine: list[tuple[int, float | None]], link: str) -> str:
    rows: list[str] = []
    for item, start_h in islice(mine, MOST_EACH):
        batch = queue.case.batches[queue.batch_of(item)]
        steps = "".join(f"<li>{escape(step)}</li>" for step in batch.steps or DEFAULT_STEPS)
        code = qr(f"{link}/{item}" if link else f"tidegate recovery done {queue.name} {item} --technician {name}")
        minutes = 0 if start_h is None else round(start_h * 60)
        when = "in hand" if start_h is None else f"from {minutes // 60}:{minutes % 60:02d} h"
        rows.append(
            f"<div class='card codes'>{code}<div><h3><span class=box></span> {item}. {escape(queue.label(item))}</h3>"
            f"<p class=soft>{escape(batch.site)} · for {escape(batch.service)} · {when} · "
            f"{batch.hours * 60:g} min</p><ol>{steps}</ol></div></div>"
        )
    more = f"<p>{len(mine) - MOST_EACH:,} more: print again later.</p>" if len(mine) > MOST_EACH else ""
    devices = f"{len(mine):,} device{'s' * (len(mine) != 1)}"
    head = f"<section class=sheet><h1>{escape(name)}</h1><p class=soft>{escape(queue.name)} · {devices}. "
    scan = "Scan a code to report it done." if link else "The code holds the command that reports it done."
    return f"{head}{scan}</p>{''.join(rows)}{more}</section>"
