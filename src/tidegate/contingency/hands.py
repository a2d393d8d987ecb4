"""The queue as plain pages: a technician's next device with its steps, and the lead's burn-down. No scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from html import escape
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tidegate.contingency.burndown import forecast, picture
from tidegate.contingency.page import page, table
from tidegate.contingency.queue import Queue
from tidegate.contingency.queue_store import LEAD, QueueStore
from tidegate.contingency.sheets import DEFAULT_STEPS
from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted

MOST_BODY = 4096
_STATUS: list[tuple[type[TidegateError], int]] = [(NotFound, 404), (BadInput, 400), (Untrusted, 403), (Refused, 409)]
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
}


def make_app(store: QueueStore) -> Starlette:
    """Make the application (ASGI): `/t/TOKEN` for a technician, `/board/TOKEN` for whoever leads."""
    lock = asyncio.Lock()

    def answered(work: Callable[[Request, dict[str, str]], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            body = (await request.body())[:MOST_BODY] if request.method == "POST" else b""
            said = {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
            try:
                async with lock:
                    found = await asyncio.to_thread(work, request, said)
            except TidegateError as error:
                status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
                body_html = f"<h1>That did not work</h1><p>{escape(str(error))}</p>"
                found = HTMLResponse(page("Recovery", body_html), status)
            found.headers.update(HEADERS)
            return found

        return answer

    def desk(request: Request, said: dict[str, str]) -> Response:
        return _desk(store, request.path_params["token"], request.method, said)

    def board(request: Request, said: dict[str, str]) -> Response:
        if store.who(request.path_params["token"]) != LEAD:
            raise Untrusted("this page is for whoever leads the recovery")
        return HTMLResponse(board_page(store.queue(), _now_ms()))

    return Starlette(
        routes=[
            Route("/t/{token}", answered(desk), methods=["GET", "POST"]),
            Route("/t/{token}/{item:int}", answered(desk), methods=["GET", "POST"]),
            Route("/board/{token}", answered(board)),
        ]
    )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _desk(store: QueueStore, token: str, method: str, said: dict[str, str]) -> Response:
    name = store.who(token)
    if name == LEAD:
        return RedirectResponse(f"/board/{token}", 303)
    if method == "POST":
        item, act = int(said["item"]) if said.get("item", "").isdecimal() else 0, said.get("act", "")
        if act == "done":
            store.done(item, name, _now_ms())
        elif act == "cant":
            store.cant(item, name, said.get("why", ""), _now_ms())
        elif act == "key":
            if store.queue().has(name) != item:
                raise Refused(f"item {item} is not yours: its key is not shown to you")
            return HTMLResponse(_key_page(store.queue(), item, store.show_key(item, name, _now_ms()), token))
        else:
            raise BadInput("say done, cant or key")
        return RedirectResponse(f"/t/{token}", 303)
    item = store.next(name, _now_ms())
    return HTMLResponse(desk_page(store.queue(), name, item, token, with_key=item is not None and store.has_key(item)))


def desk_page(queue: Queue, name: str, item: int | None, token: str, *, with_key: bool = False) -> str:
    """Give a technician's page: one device, its steps, and what can be said about it."""
    mine = sum(one.state == "done" and one.technician == name for one in queue.items.values())
    told = f"{mine} done by you, {queue.count('done'):,} of {queue.size:,}"
    head = f"<p class=soft>{escape(queue.name)} · {escape(name)} · {told}</p>"
    if item is None:
        return page("Recovery", f"{head}<h1>Nothing more for you</h1><p>All that you may do is done or given out.</p>")
    batch = queue.case.batches[queue.batch_of(item)]
    steps = "".join(f"<li>{escape(step)}</li>" for step in batch.steps or DEFAULT_STEPS)
    action = f"action='/t/{escape(token)}' method=post"
    hidden = f"<input type=hidden name=item value={item}>"
    key = f"<form {action}>{hidden}<button class=plain name=act value=key>Show the recovery key (once)</button></form>"
    body = (
        f"{head}<div class=card><p class=soft>Item {item} · {escape(batch.site)} · for {escape(batch.service)}</p>"
        f"<h1>{escape(queue.label(item))}</h1><ol>{steps}</ol>{key if with_key else ''}"
        f"<p><form {action}>{hidden}<button name=act value=done>Done: it works again</button></form></p>"
        f"<p><form {action}>{hidden}<input name=why placeholder='Why not?' required>"
        "<button class=plain name=act value=cant>Cannot be done</button></form></p></div>"
    )
    return page("Recovery", body)


def _key_page(queue: Queue, item: int, key: str, token: str) -> str:
    body = (
        f"<div class=card><p class=soft>{escape(queue.label(item))}</p><h1 class=mono>{escape(key)}</h1>"
        "<p>It is shown this once, and that is on record. It is not kept here any longer.</p>"
        f"<p><a href='/t/{escape(token)}'>Back to the steps</a></p></div>"
    )
    return page("Recovery key", body)


def board_page(queue: Queue, at_ms: int) -> str:
    """Give the lead's page: burn-down, services, and what could not be done."""
    found = forecast(queue, queue.hour(at_ms))
    low, high = found["finish_between_h"]
    rows = [
        [
            escape(name),
            f"{row['done']:,} of {row['needs']:,} needed",
            "back" if row["back"] else "<span class=bad>down</span>",
        ]
        for name, row in found["services"].items()
    ]
    stuck = [
        [str(item), escape(queue.label(item)), escape(one.technician), escape(one.why)]
        for item, one in queue.items.items()
        if one.state == "cant"
    ]
    body = (
        f"<h1>{escape(queue.name)}</h1><p>{found['done']:,} of {found['devices']:,} devices done, {found['given']:,} in"
        f" hand, {found['cant']:,} put aside. All done after <b>{found['finish_h']:.1f} h</b> ({low:.1f} to {high:.1f}"
        f" h, 9 times of 10); now {found['hours']:.1f} h. Repairs take {found['pace']:.2f} times what was planned.</p>"
        f"{picture(queue, found)}{table(['service', 'devices', ''], rows)}"
    )
    if stuck:
        body += f"<h2>Could not be done</h2>{table(['item', 'device', 'by', 'why'], stuck)}"
    return page(queue.name, body, head="<meta http-equiv=refresh content=30>")
