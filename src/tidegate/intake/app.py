"""The devices' HTTP: enrol, announce, report, and the signed files. Bare ASGI, since these routes carry the fleet."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import structlog
from starlette.types import Receive, Scope, Send

from tidegate.control.controller import Controller
from tidegate.core.errors import TidegateError
from tidegate.intake import announce, enrol, renew, reports
from tidegate.intake.copies import CopyWatch
from tidegate.intake.counts import IntakeCounts
from tidegate.intake.files import RepositoryFiles
from tidegate.intake.http import MOST_BODY, Reply, header, problem, problem_of, read_body, send, too_often
from tidegate.intake.identity import Epochs, TooOften
from tidegate.intake.limits import Limits, Rates
from tidegate.log.port import Overloaded
from tidegate.trust.credentials import DeviceSecrets
from tidegate.trust.epochs import SecretsFile

Handler = Callable[["IntakeApp", Scope, bytes], Awaitable[Reply]]

ROUTES: dict[str, Handler] = {
    "/v1/enrol": enrol.handle,
    "/v1/announce": announce.handle,
    "/v1/renew": renew.handle,
    "/v1/reports": reports.handle,
}


class IntakeApp:
    """Answers devices. It decides nothing: it checks who asks and what, and puts the question to the controller."""

    def __init__(
        self,
        controller: Controller,
        secrets: DeviceSecrets | SecretsFile,
        repository: Path,
        rates: Rates | None = None,
    ) -> None:
        self.controller = controller
        self.secrets = secrets
        self.repository = repository
        self.limits = Limits(rates)
        self.copies = CopyWatch()
        self.epochs = Epochs()
        self.counts = IntakeCounts()
        self._files = RepositoryFiles(repository)

    async def __call__(self, scope: Scope, receive: Receive, send_message: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith("/repo/"):
            await self._files(scope, receive, send_message)
            return
        began = time.perf_counter()
        reply = await self._reply(scope, receive, path)
        self.counts.answered(path if path in ROUTES else "other", reply.status, time.perf_counter() - began)
        await send(send_message, reply)

    async def _reply(self, scope: Scope, receive: Receive, path: str) -> Reply:
        if path not in ROUTES:
            return problem(404, "Not found", "there is nothing at this address")
        if scope["method"] != "POST":
            return problem(405, "Method not allowed", f"{path} takes POST", headers={"allow": "POST"})
        if self.controller.full:  # before the body is read: turning away must cost little
            self.counts.shed.inc()
            return problem_of(Overloaded("too much is waiting; ask again later"))
        if wait_s := self.limits.address(scope.get("client")):
            return too_often(wait_s, "this address")
        body = await read_body(scope, receive)
        if body is None:
            return problem(413, "Too large", f"a request may have {MOST_BODY} bytes")
        return await self.answer(scope, body)

    async def answer(self, scope: Scope, body: bytes) -> Reply:
        """Answer a request whose path is one of `ROUTES` and whose body has been read."""
        path: str = scope["path"]
        handler = ROUTES.get(path)
        if handler is None:
            return problem(404, "Not found", "there is nothing at this address")
        try:
            return self._hint(await handler(self, scope, body), scope)
        except TooOften as error:
            return too_often(error.wait_s, "this device")
        except TidegateError as error:
            return problem_of(error)
        except Exception:  # a mistake of ours is no reason to leave a device without an answer that it can read
            structlog.get_logger().exception("request failed", path=path, device=_said_index(scope))
            return problem(500, "Error", "the server made a mistake, which is in its log; try again later")

    def _hint(self, reply: Reply, scope: Scope) -> Reply:
        """Tell a device with a credential of an older epoch that there is a newer one to ask for."""
        epoch = header(scope, b"authorization").removeprefix("Tidegate ").partition(".")[0]
        newest = self.secrets.newest_epoch
        if epoch.isdecimal() and int(epoch) < newest:
            return replace(reply, headers={**reply.headers, "tidegate-renew": str(newest)})
        return reply


def _said_index(scope: Scope) -> str:
    """Give the device number that a request names, verified or not; never its MAC."""
    parts = header(scope, b"authorization").removeprefix("Tidegate ").split(".")
    return parts[1][:12] if len(parts) == 5 and parts[1].isdecimal() else ""
