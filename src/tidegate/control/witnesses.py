"""Asks the ledger's witnesses for their signatures (C2SP tlog-witness), and stops a ledger that forks what they saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tidegate.control.ledger import Ledger
from tidegate.control.strangers import Heard, ask
from tidegate.core.errors import Refused, TidegateError, Untrusted
from tidegate.trust.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from tidegate.trust.ledger import WAY_OUT
from tidegate.trust.ledger_policy import LedgerPolicy, NamedWitness
from tidegate.trust.note import NoteKey, parse_note
from tidegate.trust.witness import cosigned_at
from tidegate.trust.witness_call import MOST_CALL, origin_hash, take_answer, write_call

LOOK_S, POLICY_EVERY_S = 0.5, 2.0
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
TIMEOUT_S = 10.0
FIRST_TRIES = 3


@dataclass(slots=True)
class Asked:
    """How it stands with one witness: the entries that it is known to have seen, and those that it cosigned for us."""

    key: NoteKey
    url: str
    seen: int = 0
    cosigned: int = -1
    at_s: int = 0
    trouble: str = ""
    again_at: float = 0.0
    pause_s: float = FIRST_WAIT_S

    def view(self, size: int) -> dict[str, Any]:
        """Show it, of a ledger of so many entries."""
        return {
            "name": self.key.name,
            "url": self.url,
            "entries": max(self.cosigned, 0),
            "behind": max(size - max(self.cosigned, 0), 0),
            "at_s": self.at_s,
            "trouble": self.trouble,
        }


class Witnesses(Collector):
    """One task of the server. What a witness does not answer is asked again, and stops no rollout."""

    def __init__(
        self, ledger: Ledger, policy: Callable[[], LedgerPolicy | None], alarm: Callable[[str], None] = lambda _: None
    ) -> None:
        """Take the ledger, what reads the signed policy that names its witnesses, and who is told of a fork."""
        self._ledger, self._policy, self._alarm = ledger, policy, alarm
        self._asked: dict[str, Asked] = {}
        self._read_again_at = 0.0
        self.quorum = 0

    def view(self) -> list[dict[str, Any]]:
        """Show how it stands with each witness."""
        size = self._ledger.checkpoint.size
        return [asked.view(size) for asked in self._asked.values()]

    def collect(self) -> Iterator[Metric]:
        """Give what a monitor reads of it."""
        what = "Entries of the ledger that a witness has not cosigned"
        family = GaugeMetricFamily("tidegate_ledger_witness_behind_entries", what, labels=("witness",))
        for witness in self.view():
            family.add_metric((witness["name"],), witness["behind"])
        yield family

    async def run(self) -> None:
        """Go on until cancelled."""
        async with _client() as client:
            while True:
                try:
                    await self.turn(client)
                except (TidegateError, OSError) as error:
                    structlog.get_logger().warning("witnesses could not be asked", trouble=str(error))
                await asyncio.sleep(LOOK_S)

    async def check_first(self) -> None:
        """Hold the log against what each witness has seen, before anything is published.

        Raises:
            Refused: if a witness has cosigned more than the log gives, or something else.
        """
        self._read_policy()
        async with _client() as client:
            await asyncio.gather(*(self._compare(client, asked) for asked in self._asked.values()))

    async def _compare(self, client: httpx.AsyncClient, asked: Asked) -> None:
        for _ in range(FIRST_TRIES):
            try:
                conflict = await self._conflict(client, asked)
                break
            except httpx.InvalidURL:
                return
            except httpx.HTTPError as error:  # it may be away for longer than this server can wait
                asked.trouble = f"it does not answer ({error or type(error).__name__})"
                await asyncio.sleep(LOOK_S)
        else:
            structlog.get_logger().warning("witness not asked first", name=asked.key.name, trouble=asked.trouble)
            return
        if conflict is not None:
            raise Refused(_conflict(asked.key.name, conflict.size))

    async def _conflict(self, client: httpx.AsyncClient, asked: Asked) -> Checkpoint | None:
        """Give a checkpoint that the ledger's key has signed, the witness cosigned, and this log does not give.

        A witness's bare word stops nothing: without such a checkpoint there is none. Raises as `strangers.ask`.
        """
        url = f"{asked.url}/{origin_hash(self._ledger.key.name)}/checkpoint"
        reply = await ask(client, "GET", url, most=MOST_CALL, deadline_s=TIMEOUT_S)
        try:
            seen = open_checkpoint(reply.body, self._ledger.key) if reply.status == 200 else None
            if seen is None or cosigned_at(reply.body, asked.key) is None:
                return None
        except Untrusted as error:
            structlog.get_logger().warning("witness shows what proves nothing", name=asked.key.name, trouble=str(error))
            return None
        return None if self._ledger.holds(seen) else seen

    async def turn(self, client: httpx.AsyncClient) -> bool:
        """Ask whoever has not signed the newest checkpoint. Gives whether anybody did."""
        if time.monotonic() >= self._read_again_at:
            await asyncio.to_thread(self._read_policy)
        size, note = self._ledger.checkpoint.size, self._ledger.note
        due = [a for a in self._asked.values() if a.cosigned != size and time.monotonic() >= a.again_at]
        if not due or size == 0 or self._ledger.barred:
            return False
        answers = await asyncio.gather(*(self._ask(client, asked, size, note) for asked in due))
        found = note
        for asked, answer in zip(due, answers, strict=True):
            if answer is not None:
                found = take_answer(found, answer, asked.key)
        if found == note:
            return False
        await asyncio.to_thread(self._ledger.cosigned, found)
        return True

    def _read_policy(self) -> None:
        self._read_again_at = time.monotonic() + POLICY_EVERY_S
        policy = self._policy()
        fits = policy is not None and policy.note_key == self._ledger.key
        named: tuple[NamedWitness, ...] = policy.witnesses if policy is not None and fits else ()
        self.quorum = policy.quorum if policy is not None and fits else 0
        known, self._asked = self._asked, {}
        for witness in named:
            old = known.get(witness.key)
            if witness.url:
                url = witness.url.rstrip("/")
                self._asked[witness.key] = old if old and old.url == url else Asked(witness.note_key, url)
        self._ledger.demand([witness.note_key for witness in named], self.quorum)

    async def _ask(self, client: httpx.AsyncClient, asked: Asked, size: int, note: bytes) -> bytes | None:
        """Give a witness's signature lines, or None; then `trouble` says why."""
        try:
            reply = await self._submit(client, asked, note)
            if reply.status == 409:  # it names the size that it has seen
                asked.seen = _size_in(reply)
                if asked.seen <= size:
                    reply = await self._submit(client, asked, note)
            if reply.status == 200 and asked.seen <= size:
                answer = reply.body
                asked.at_s = cosigned_at(take_answer(note, answer, asked.key), asked.key) or 0
                asked.seen, asked.cosigned, asked.trouble, asked.pause_s = size, size, "", FIRST_WAIT_S
                return answer
            knows = " (does it know this ledger's key?)" if reply.status in (403, 404) else ""
            asked.trouble = f"it answered {reply.status}{knows}"
            if reply.status == 422 or asked.seen > size:
                said, asked.seen = asked.seen, max(asked.cosigned, 0)
                conflict = await self._conflict(client, asked)
                if conflict is not None:
                    self._bar(asked, conflict.size)
                    return None
                asked.trouble = f"it says that it has seen {said} entries of another history, and shows no proof of it"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            asked.trouble = f"it does not answer ({error or type(error).__name__})"
        except TidegateError as error:
            asked.trouble = str(error)
        asked.again_at, asked.pause_s = time.monotonic() + asked.pause_s, min(2 * asked.pause_s, LONGEST_WAIT_S)
        return None

    async def _submit(self, client: httpx.AsyncClient, asked: Asked, note: bytes) -> Heard:
        size = parse_checkpoint(parse_note(note).text).size
        body = write_call(asked.seen, self._ledger.consistency(asked.seen, size), note)
        url = f"{asked.url}/add-checkpoint"
        return await ask(client, "POST", url, most=MOST_CALL, deadline_s=TIMEOUT_S, content=body)

    def _bar(self, asked: Asked, size: int) -> None:
        asked.trouble = _conflict(asked.key.name, size)
        self._ledger.barred = self._ledger.trouble = asked.trouble
        self._alarm(asked.trouble)
        structlog.get_logger().error("the ledger is stopped", trouble=asked.trouble)


def _conflict(name: str, size: int) -> str:
    return (
        f"witness {name} has cosigned {size} entries that this log does not give: the ledger would fork, so nothing"
        f" more of it is published; {WAY_OUT}"
    )


def _size_in(reply: Heard) -> int:
    text = reply.body.decode(errors="replace").strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise Untrusted("it answered 409 without the size that it has seen")
    return int(text)


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)
