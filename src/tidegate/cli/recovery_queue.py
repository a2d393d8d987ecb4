"""`tidegate recovery open|next|done ...`: the queue while people work it off, by command, on paper and as a page."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tidegate.cli.book import me, now_ms, open_book, write
from tidegate.cli.diary import write_diary
from tidegate.cli.home import Home, default_home
from tidegate.cli.recovery import app, hours
from tidegate.cli.serve_files import Bounds, make_doors
from tidegate.cli.serve_ports import host_port, make_server, run_loop, until_told
from tidegate.cli.serve_tls import choose_tls
from tidegate.cli.show import out, out_json, table
from tidegate.contingency.burndown import forecast
from tidegate.contingency.hands import board_page, make_app
from tidegate.contingency.queue_store import LEAD, QueueStore
from tidegate.contingency.sheets import DEFAULT_STEPS, sheets_page
from tidegate.core.errors import BadInput
from tidegate.core.words import counted
from tidegate.trust.durable import write_durably


def _store(name: str, home: Path | None) -> QueueStore:
    return QueueStore(open_book(home), name)


@app.command(name="open")
def open_queue(case: Path, /, *, name: str = "", incident: str = "", home: Path | None = None) -> None:
    """Open a queue from a case: every device that needs hands becomes work.

    Args:
        case: A YAML or JSON file, as for tidegate recovery schedule.
        name: What to call the queue; default: the file's name.
        incident: The incident that it belongs to.
        home: The control plane's directory, whose book keeps the queue.
    """
    store = _store(name or case.stem, home)
    queue = store.open(case, who=me(), at_ms=now_ms(), incident=incident)
    write(home, "recovery_opened", {"queue": store.name, "incident": incident, "devices": queue.size})
    out(f"Queue {store.name}: {counted(queue.size, 'device')}, {counted(len(queue.case.technicians), 'technician')}.")
    out(f"Next: tidegate recovery sheets {store.name}, tidegate recovery serve {store.name}, or for one person:")
    out(f"tidegate recovery next {store.name} {queue.case.technicians[0].name}")


@app.command(name="next")
def next_item(queue: str, technician: str, /, *, home: Path | None = None, json: bool = False) -> int:
    """Give a technician the next device. It stays theirs until it is done or cannot be. Exit code 1 if there is none.

    Args:
        queue: The queue's name.
        technician: Who asks.
        home: The control plane's directory.
        json: Print JSON.
    """
    store = _store(queue, home)
    item = store.next(technician, now_ms())
    found = store.queue()
    if json:
        out_json({"item": item, "device": found.label(item) if item else None})
        return 0 if item else 1
    if item is None:
        out(f"Nothing more for {technician}: all that they may do is done or given out.")
        return 1
    batch = found.case.batches[found.batch_of(item)]
    out(f"Item {item}: {found.label(item)}, at {batch.site}, for {batch.service}, {batch.hours * 60:g} min.")
    for number, step in enumerate(batch.steps or DEFAULT_STEPS, 1):
        out(f"  {number}. {step}")
    if store.has_key(item):
        out(f"Its recovery key, shown once: tidegate recovery key {queue} {item} --who {technician}")
    out(f"Then: tidegate recovery done {queue} {item} --technician {technician}   (or: cant ... --why ...)")
    return 0


@app.command
def done(queue: str, item: int, /, *, technician: str, home: Path | None = None) -> None:
    """Report a device done. Said twice is once.

    Args:
        queue: The queue's name.
        item: The item's number.
        technician: Who did it.
        home: The control plane's directory.
    """
    store = _store(queue, home)
    store.done(item, technician, now_ms())
    found = store.queue()
    out(f"Item {item} is done: {found.count('done'):,} of {found.size:,}.")


@app.command
def cant(queue: str, item: int, /, *, technician: str, why: str, home: Path | None = None) -> None:
    """Report that a device cannot be done; it is put aside until somebody puts it back.

    Args:
        queue: The queue's name.
        item: The item's number.
        technician: Who says so.
        why: What keeps it from being done.
        home: The control plane's directory.
    """
    _store(queue, home).cant(item, technician, why, now_ms())
    out(f"Item {item} is put aside. Put it back: tidegate recovery again {queue} {item}")


@app.command
def again(queue: str, item: int, /, *, home: Path | None = None) -> None:
    """Put a device back into the queue that was put aside, or given to somebody who has gone.

    Args:
        queue: The queue's name.
        item: The item's number.
        home: The control plane's directory.
    """
    _store(queue, home).again(item, me(), now_ms())
    out(f"Item {item} is open again.")


@app.command
def keys(queue: str, file: Path, /, *, home: Path | None = None) -> None:
    """Take recovery keys in, for showing each once.

    Args:
        queue: The queue's name.
        file: CSV: an item's number or a device's name, and its key. Delete it afterwards.
        home: The control plane's directory.
    """
    out(f"Recovery keys at hand: {_store(queue, home).import_keys(file):,}. Delete {file} now.")


@app.command
def key(queue: str, item: int, /, *, who: str, home: Path | None = None) -> None:
    """Show a device's recovery key, once. Who saw it is on record before it is shown.

    Args:
        queue: The queue's name.
        item: The item's number.
        who: Who is to see it.
        home: The control plane's directory.
    """
    if not who.strip():
        raise BadInput("--who must name who is to see the key")
    print(_store(queue, home).show_key(item, who, now_ms()))


@app.command
def status(
    queue: str,
    /,
    *,
    out_file: Annotated[Path | None, Parameter(name="--out")] = None,
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Show how the queue burns down: done, left, when it will be over and how sure that is.

    Args:
        queue: The queue's name.
        out_file: Write it as a page with a picture.
        home: The control plane's directory.
        json: Print JSON.
    """
    store = _store(queue, home)
    now, found = now_ms(), store.queue()
    if out_file is not None:
        write_durably(out_file, board_page(found, now).encode())
        out(f"Written: {out_file}")
        return
    told = forecast(found, found.hour(now))
    if json:
        out_json(told)
        return
    left = told["devices"] - told["done"]
    bar = "█" * round(40 * told["done"] / max(told["devices"], 1))
    out(f"{bar:<40} {told['done']:,} of {told['devices']:,} done, {left:,} left ({told['given']:,} in hand)")
    low, high = told["finish_between_h"]
    out(f"All done after {hours(told['finish_h'])} ({hours(low)} to {hours(high)}, 9 times of 10).")
    rows = [
        (name, f"{row['done']:,}", f"{row['needs']:,}", "back" if row["back"] else "down")
        for name, row in told["services"].items()
    ]
    table("Services", ("service", "done", "needed", ""), rows, empty="")
    for item, one in found.items.items():
        if one.state == "cant":
            out(f"Put aside: item {item}, {found.label(item)}: {one.why} ({one.technician})")


@app.command
def sheets(
    queue: str,
    /,
    *,
    out_file: Annotated[Path, Parameter(name="--out")] = Path("sheets.html"),
    address: str = "",
    home: Path | None = None,
) -> None:
    """Write sheets to print: for each technician the devices in order, with steps, boxes and codes to scan.

    Args:
        queue: The queue's name.
        out_file: Where they go.
        address: Where tidegate recovery serve can be reached, as in http://10.0.0.5:8480, for the codes.
        home: The control plane's directory.
    """
    store = _store(queue, home)
    found = store.queue()
    text = sheets_page(found, found.hour(now_ms()), address, store.tokens())
    write_durably(out_file, text.encode(), 0o600 if address else 0o644)
    out(f"Written: {out_file}. Print it, a sheet for each technician.")


@app.command
def links(queue: str, /, *, address: str = "http://127.0.0.1:8480", home: Path | None = None) -> None:
    """Print each technician's own link, and the lead's. Whoever has a link acts in that name.

    Args:
        queue: The queue's name.
        address: Where tidegate recovery serve can be reached.
        home: The control plane's directory.
    """
    for name, token in _store(queue, home).tokens().items():
        where = "board" if name == LEAD else "t"
        out(f"{'(lead)' if name == LEAD else name}  {address.rstrip('/')}/{where}/{token}")


@app.command
def serve(
    queue: str,
    /,
    *,
    listen: str = "127.0.0.1:8480",
    without_tls: bool = False,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    home: Path | None = None,
) -> None:
    """Give the queue as plain pages until it is told to stop: one link for each technician, one for the lead.

    Args:
        queue: The queue's name.
        listen: HOST:PORT; port 0 takes a free one.
        without_tls: Listen beyond this machine without TLS: on a network of your own, when all else is down.
        tls_cert: Certificate chain (PEM); default: the one that tidegate tls issue made, if it did.
        tls_key: Its private key.
        home: The control plane's directory.
    """
    end = host_port("--listen", listen)
    tls = choose_tls(Home(home or default_home()), (tls_cert, tls_key), without_tls, [end])
    store = _store(queue, home)
    store.queue()
    write_diary("warning")

    def opened(number: int) -> None:
        address = tls.url_for_others(end[0], number)
        out(f"Serving {queue} at {address}; links: tidegate recovery links {queue} --address {address}")

    server = make_server(make_app(store), end, tls, make_doors("collector", Bounds())["devices"])
    with contextlib.suppress(KeyboardInterrupt):
        run_loop(until_told(server, opened))
