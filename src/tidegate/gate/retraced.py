"""Which line of a release's shell program a step ended at: it is done again, and says each line that it comes to."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from tidegate.gate.jobs import Job
from tidegate.gate.trial import Edition, Trial

CURRENT = "{current}/"
SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")
WITHIN_S = 8.0
_MARK = "@tidegate:"
_SAID = re.compile(_MARK + r"(\d+) ")
_PLACES = ("/tmp/component/work", "/tmp/watch", "/tmp/quarantine")


def last_line(
    trial: Trial,
    done: Sequence[tuple[Edition, Sequence[str]]],
    edition: Edition,
    words: Sequence[str],
    writable: Sequence[str],
) -> int:
    """Give the line at which a command of an edition's ends badly, after other commands; 0 where nothing shows it.

    It is no proof: the shell that tells its lines may be another one than a device's, and runs beside no driver.
    """
    at = next((number for number, word in enumerate(words) if word.startswith(CURRENT)), -1)
    bash = shutil.which("bash")
    if at < 0 or bash is None or not _is_shell(edition, words, at):
        return 0
    before = [f"{shlex.join(_filled(trial, each, command))} >/dev/null 2>&1" for each, command in done]
    again = shlex.join([bash, "-x", *_filled(trial, edition, words[at:])])
    script = "\n".join([f"mkdir -p {' '.join(_PLACES)}", "echo own > /tmp/watch/readme.txt", *before, again, "exit $?"])
    read = tuple(
        {each.digest: (each.content, f"/slots/{each.digest}") for each in (edition, *(e for e, _ in done))}.values()
    )
    own = trial.runner.limits
    given = (trial.settings.driver or {}).get("timeout_s", "")
    within_s = min(own.wall_s, WITHIN_S, float(given) if given.isdecimal() else WITHIN_S)
    limits = replace(own, wall_s=within_s, cpu_s=min(own.cpu_s, int(WITHIN_S)))
    ran = trial.runner.run(
        Job(("sh", "-c", script), read, b"", {"PS4": f"+{_MARK}$LINENO "}, limits, False, tuple(writable))
    )
    said = _SAID.findall(ran.stderr)
    return int(said[-1]) if said and not ran.ok else 0


def _is_shell(edition: Edition, words: Sequence[str], at: int) -> bool:
    if at:
        return PurePosixPath(words[at - 1]).name in SHELLS
    program = edition.content / words[0].removeprefix(CURRENT)
    first = program.read_bytes()[:100].split(b"\n")[0] if program.is_file() and not program.is_symlink() else b""
    return first.startswith(b"#!") and first.split(b"/")[-1].split()[0].decode(errors="replace") in SHELLS


def _filled(trial: Trial, edition: Edition, words: Sequence[str]) -> list[str]:
    values = {
        "current": f"/slots/{edition.digest}",
        "work": _PLACES[0],
        "watch": _PLACES[1],
        **(trial.settings.driver or {}),
    }
    found: list[str] = []
    for word in words:
        for name, value in values.items():
            word = word.replace("{" + name + "}", value)
        found.append(word)
    return found
