"""Runs the checks of a release side by side, those that measure at the end, and reuses answers that still hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from typing import Any

from tidegate.core.errors import BadInput, TidegateError
from tidegate.core.wire import read
from tidegate.gate.cache import code_of
from tidegate.gate.port import FAILED, MOST_FINDINGS, PASSED, SKIPPED, WARNED, Check, Finding, Result, Seen
from tidegate.gate.trial import Trial

MOST_QUOTED = 16 << 20
Watch = Callable[[str, str, float, str], None]
"""Told (check, state, share done, at what); states: waits, runs, and the results."""


def run_checks(trial: Trial, checks: Sequence[Check], watch: Watch | None = None) -> list[Result]:
    """Run checks; each starts when those that it needs have ended, and is left out if one of them failed.

    Raises:
        NoSandbox: before anything has run.
    """
    trial.sandbox.check()
    tell = watch or (lambda name, state, share, at: None)
    waiting = {check.name: check for check in checks}
    done: dict[str, Result] = {}
    for check in checks:
        tell(check.name, "waits", 0.0, "")
    with ThreadPoolExecutor(max(len(checks), 1)) as pool:
        try:
            _all(trial, waiting, done, pool, tell)
        except BaseException:
            trial.sandbox.stop()  # or leaving would wait for what runs
            raise
    return [done[check.name] for check in checks]


def _all(
    trial: Trial, waiting: dict[str, Check], done: dict[str, Result], pool: ThreadPoolExecutor, tell: Watch
) -> None:
    running: dict[Future[Result], str] = {}
    checks = list(waiting.values())
    while waiting or running:
        for check in _ready(waiting, done, running):
            del waiting[check.name]
            blocked = _blocking(check, done)
            if blocked:
                done[check.name] = Result(check.name, skipped=f"without meaning, since {blocked[0]} failed")
                tell(check.name, SKIPPED, 1.0, "")
            else:
                running[pool.submit(_one, trial, check, tell)] = check.name
        if not running:
            continue
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            done[name] = future.result()
            trial.results[name] = done[name].result
            tell(name, done[name].result, 1.0, "")
    for check in checks:  # what ran beside one that failed in the end
        failed = _blocking(check, done)
        if failed and not done[check.name].skipped:
            done[check.name] = Result(check.name, skipped=f"without meaning, since {failed[0]} failed")
            trial.results[check.name] = SKIPPED
            tell(check.name, SKIPPED, 1.0, "")


def _blocking(check: Check, done: dict[str, Result]) -> list[str]:
    """Name the checks whose failure leaves this one without a meaning."""
    return [name for name in check.needs if name in done and done[name].result == FAILED and done[name].blocks]


def _ready(waiting: dict[str, Check], done: dict[str, Result], running: dict[Future[Result], str]) -> list[Check]:
    """Give the checks that may start now; one that must be alone starts when nothing else is left or runs."""

    def waits(check: Check) -> bool:
        beside = getattr(check, "beside", ())
        return any(name in waiting or (name in running.values() and name not in beside) for name in check.needs)

    free = [check for check in waiting.values() if not check.alone and not waits(check)]
    if free or running:
        return free
    return list(waiting.values())[:1]


def _one(trial: Trial, check: Check, tell: Watch) -> Result:
    started, began = time.time(), time.monotonic()
    tell(check.name, "runs", 0.0, "")
    try:
        inputs = check.inputs(trial)
        inputs = None if inputs is None else [code_of(check), inputs]
        known = _known(trial.cache.get(inputs), started)
        if known is not None:
            return known
        seen = Seen()
        last = threading.local()

        def say(share: float, at: str) -> None:
            now = time.monotonic()
            if now - getattr(last, "at", 0.0) > 0.1:
                last.at = now
                tell(check.name, "runs", share, at)

        check.run(trial, seen, say)
    except BadInput as error:
        seen = Seen()
        seen.fail(str(error))
        inputs = None
    except TidegateError as error:
        seen = Seen()
        seen.fail(f"it could not look: {error}")
        inputs = None
    except Exception as error:  # a plug-in's fault, or an interpreter that lies in another form than foreseen
        seen = Seen()
        seen.fail(f"the check itself broke, so it vouches for nothing: {type(error).__name__}: {error}")
        inputs = None
    kept = sorted(seen.findings, key=lambda finding: (finding.note, not finding.grave))[:MOST_FINDINGS]
    took_s = round(time.monotonic() - began, 3)
    quoted = tuple(replace(f, sentence=_printable(f.sentence), quote=_quote(trial, f)) for f in kept)
    result = Result(check.name, quoted, seen.figures, seen.skipped, round(started, 3), took_s, blocks=seen.blocks)
    if result.result in (PASSED, WARNED):
        trial.cache.put(inputs, asdict(result))
    return result


def _quote(trial: Trial, finding: Finding) -> str:
    """Give what stands in the payload's line that a finding points to."""
    root = trial.candidate.content.resolve()
    path = (root / finding.file).resolve()
    # The name may be an interpreter's word, and must not lead to this machine's own files.
    if not finding.line or not path.is_relative_to(root) or not path.is_file() or path.stat().st_size > MOST_QUOTED:
        return ""
    lines = path.read_bytes().split(b"\n")[finding.line - 1 : finding.line]
    text = lines[0].decode(errors="replace").strip()[:160] if lines else ""
    return _printable(text)


def _printable(text: str) -> str:
    """Take out what a terminal would obey: it may be the content's own words, or the interpreter's."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _known(answer: Any, now_s: float) -> Result | None:
    """Read an answer that was kept; its time is now, for what it says holds now."""
    if answer is None:
        return None
    try:
        found = read(Result, answer, "the kept answer")
    except BadInput:
        return None
    return replace(found, reused=True, seen_s=found.started_s, started_s=round(now_s, 3))


def passed(results: Sequence[Result]) -> bool:
    """Say whether a release may go on: something was looked at, and nothing failed."""
    return any(result.result in (PASSED, WARNED) for result in results) and not any(
        result.result == FAILED for result in results
    )
