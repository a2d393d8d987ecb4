"""Leads the release's own driver through a device's steps, in the sandbox."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tidegate.core.model import Manifest
from tidegate.core.wire import plain
from tidegate.gate.engine_yara import YaraInterpreter
from tidegate.gate.jobs import Job
from tidegate.gate.nearest import parting
from tidegate.gate.port import Seen
from tidegate.gate.retraced import CURRENT, last_line
from tidegate.gate.trial import Edition, Trial

PROBE_S = "1"
WRITABLE = (
    "/etc", "/etc/cron.d", "/etc/init.d", "/etc/profile.d", "/etc/systemd", "/etc/systemd/system", "/var", "/var/lib",
    "/var/cache", "/var/log", "/var/spool", "/var/spool/cron", "/var/tmp", "/home", "/home/user", "/root", "/opt",
    "/srv", "/run", "/run/lock", "/boot",
)  # fmt: skip
"""Where a release could write on a device besides its own directory: here it may, and what is left there is seen."""
KEPT = "/kept"
MOST_PROGRAM = 1 << 20
YARA_SETTINGS = {"watch": "/tmp/watch", "quarantine": "/tmp/quarantine", "interval_s": "0.1", "start_s": "90"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a device, and what it is about: a release's digest, or seconds."""

    what: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a step: `ok`, `refused` (said in good order), `broken` (an error that nobody foresaw), `died`."""

    step: Step
    kind: str
    said: str = ""
    mb: float = 0.0
    """The most memory that the component's programs have held up to then."""
    at: int = -1
    """The number of the step that did it, where that was an earlier one."""


def drive(
    trial: Trial,
    editions: Mapping[str, tuple[Manifest, Path]],
    steps: Sequence[Step],
    *,
    go_on: bool = False,
    compiled: Mapping[str, Path] | None = None,
) -> list[Came]:
    """Lead the driver through steps. Gives what came of each, up to the first that did not go well (or of all).

    `compiled`: releases' rules as they were compiled before, which the driver may take from the step `kept` on.
    """
    driver = trial.candidate.manifest.driver
    own = dict(YARA_SETTINGS) if driver in ("yara", "clamav") else {}
    asked = {
        "driver": driver,
        "component": trial.candidate.manifest.component,
        "settings": {**own, **(trial.settings.driver or {})},
        "manifests": {digest: plain(manifest) for digest, (manifest, _) in editions.items()},
        "steps": [[step.what, step.about] for step in steps],
        "go_on": go_on,
        "outside": WRITABLE,
    }
    read = [(place, f"/slots/{digest}") for digest, (_, place) in editions.items()]
    read += [((trial.base / name).resolve(), str((trial.base / name).resolve())) for name in trial.settings.read]
    read += [(path, f"{KEPT}/{digest}") for digest, path in (compiled or {}).items()]
    if trial.settings.device:
        read.append(((trial.base / trial.settings.device).resolve(), "/device"))
    room_mb = max(trial.runner.limits.disk_mb, 64)
    limits = replace(trial.runner.limits, disk_mb=room_mb, file_mb=room_mb)
    words = (sys.executable, "-B", "-m", "tidegate.gate.inside.drive")
    talks = driver == "clamav"  # the driver asks its clamd by a local socket
    job = Job(words, tuple(read), json.dumps(asked).encode(), {}, limits, talks, WRITABLE)
    ran = trial.runner.run(job, patient=True)
    found: list[Came] = []
    for line in ran.stdout.decode(errors="replace").splitlines():
        try:
            value = json.loads(line)
            step, at = steps[value["step"]], int(value["at"])
            found.append(Came(step, str(value["kind"]), str(value["said"]), float(value["mb"]), at))
        except (ValueError, KeyError, TypeError, IndexError):
            continue
    if len(found) < len(steps) and (not found or found[-1].kind == "ok" or go_on):
        found.append(Came(steps[len(found)], "died", f"the driver's process {ran.sentence} {ran.last_line}"))
    return found


def compiled_of(trial: Trial, *editions: Edition) -> dict[str, Path]:
    """Give editions' compiled rules for `drive`, where the driver's engine is the one that has compiled them."""
    found = trial.interpreter
    if trial.candidate.manifest.driver != "yara" or not isinstance(found, YaraInterpreter) or not found.own:
        return {}
    return {each.digest: path for each in editions if (path := trial.compile(each)) is not None}


def editions_of(*editions: Edition) -> dict[str, tuple[Manifest, Path]]:
    """Give editions as `drive` takes them."""
    return {edition.digest: (edition.manifest, edition.content) for edition in editions}


def judge(trial: Trial, came: Sequence[Came], steps: Sequence[Step], seen: Seen, words: Mapping[int, str]) -> bool:
    """Turn the first step that did not go well into a finding; `words` say what each step means. Whether all went."""
    for number, each in enumerate(came):
        if each.kind != "ok":
            if 0 <= each.at < len(steps):
                number, each = each.at, replace(each, step=steps[each.at])
            file, line, more = _place(trial, steps[:number], each)
            seen.fail(f"{words.get(number, each.step.what)} does not work: {each.said}{more}", file=file, line=line)
            return False
    return len(came) == len(steps)


def _place(trial: Trial, before: Sequence[Step], came: Came) -> tuple[str, int, str]:
    """Give (file, line, words to add): the payload's own program that a step ran, and the line that it complains of, or
    that names a path that is complained of, or that it ended at; "" and 0 where it has none."""
    known = {edition.digest: edition for edition in (trial.candidate, *trial.baselines)}
    at = trial.candidate
    done: list[tuple[Edition, Sequence[str]]] = []
    for step in before:
        at = known.get(step.about, at) if step.what == "point" else at
        if step.what in ("activate", "deactivate"):
            done.append((at, getattr(at.manifest, step.what)))
    name, words = _program(at, came)
    if came.step.what == "quiet" and (started := _started(trial.candidate, came.said)):
        return *started, ""
    complained = re.search(rf'{re.escape(name)}(?:: (?:line )?|", line )(\d+)\b', came.said) if name else None
    line = int(complained[1]) if complained else _line_naming(at.content, name, came.said)
    if not line and came.step.what in ("activate", "deactivate"):
        line = last_line(trial, done, at, words, WRITABLE)
    if at is trial.candidate or not name:
        return name, line, ""
    own = trial.candidate.content / name  # an older release's program fails: what this one did before it is to be read
    here = parting(at.content / name, own)[0] if own.is_file() and not own.is_symlink() else 0
    where = f"{name}:{line}" if line else name
    return (name if here else ""), here, f" ({where} of {at.title})"


def _program(edition: Edition, came: Came) -> tuple[str, Sequence[str]]:
    """Give the payload's program that a step ran ("": none), and the command that it is in."""
    what, manifest = came.step.what, edition.manifest
    programs = {"activate": manifest.activate, "deactivate": manifest.deactivate, "quiet": manifest.deactivate,
                "outside": manifest.activate, "left": manifest.deactivate, "same": manifest.activate,
                "unwell": [word for probe in manifest.health.probes for word in probe.command]}  # fmt: skip
    words = programs.get(what, ())
    return next((word.removeprefix(CURRENT) for word in words if word.startswith(CURRENT)), ""), words


def _started(edition: Edition, said: str) -> tuple[str, int] | None:
    """Give the line of a release's activation that starts something in the background that is still running."""
    name, _ = _program(edition, Came(Step("activate"), "ok"))
    path = edition.content / name
    if not name or path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_PROGRAM:
        return None
    running = {PurePosixPath(word).name for word in said.partition(": ")[2].split()[:3]}
    behind = [
        (number, line)
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), start=1)
        if re.search(r"(?<![&>])&(?![&>\d])", line) and not line.lstrip().startswith("#")
    ]
    named = [number for number, line in behind if running & set(re.findall(r"[\w.+-]+", line))]
    numbers = named or [number for number, _ in behind]
    return (name, numbers[0]) if numbers else None


def _line_naming(root: Path, name: str, said: str) -> int:
    """Give the line of a payload's program that names a path that is said, or how its name begins; else 0."""
    path = root / name
    parts = [Path(word).name for word in re.findall(r"/[^\s,;:]+", said)]
    # Not a link, which could lead to this machine's own files.
    if not name or path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_PROGRAM:
        return 0
    lines = path.read_bytes().decode(errors="replace").splitlines()
    above = [str(Path(word).parent) for word in re.findall(r"/[^\s,;:]+", said) if word.count("/") > 2]
    for part in (*parts, *above, *(re.split(r"[.\d]", part)[0] for part in parts)):
        for number, line in enumerate(lines, start=1):
            if part and part in line:
                return number
    return 0
