"""The guard: run before the protected component, it heals a crash loop without the agent and without a network.

    python -S -E guard.py --component-dir DIR -- COMMAND...   count this start, heal if need be, become COMMAND
    python -S -E guard.py --component-dir DIR --ended         this start ended in order: it was no abnormal end

It needs the standard library alone, and nothing of the agent but two files in DIR: guard.json {"armed", "digest",
"slot", "starts", ...}, written by the agent before it moves the pointer, counted up here, disarmed once the release is
confirmed or taken back; and note.json, written here for the agent to report.

Each start of a release that is not confirmed counts, and is on disk before the component runs. One more than allowed,
and `current` names the last known good again (or nothing), and the digest is condemned until a signed pardon. Every
step can be done twice: a power cut between two lines leads here again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

fcntl: Any = import_module("fcntl") if os.name == "posix" else None
STARTS_ALLOWED, ENDS_EXCUSED, LOCK_WAIT_S = 2, 3, 2.0
say = partial(print, "tidegate guard:", file=sys.stderr, flush=True)
EXIT_USAGE, EXIT_ABSENT, EXIT_NO_COMMAND = 2, 3, 127


@contextmanager
def locked(component_dir: Path) -> Iterator[None]:
    """Keep guard and agent from moving the pointer at once; go on without after a while: a start must not hang."""
    descriptor = os.open(component_dir / "guard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up = time.monotonic() + LOCK_WAIT_S
        while fcntl and time.monotonic() < give_up:  # without flock the steps are still safe one by one
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    if os.name != "nt":  # Windows has no such call: there the names go with the rename
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write(path: Path, value: dict[str, Any]) -> None:
    """Replace a JSON file so that a power cut leaves the old one or the new one."""
    partial = path.with_name(path.name + ".new")
    with partial.open("wb") as file:
        file.write(json.dumps(value, sort_keys=True).encode())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)


def read(path: Path) -> dict[str, Any] | None:
    """Give a JSON object, or None if there is none or it is damaged."""
    with suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_bytes())
        return value if isinstance(value, dict) else None
    return None


def boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "unknown"


def slot_of(component_dir: Path, pointer: str) -> str | None:
    """Give the name of the slot that a pointer names, or None if it names none that exists."""
    with suppress(OSError):
        name = Path(os.readlink(component_dir / pointer)).name
        return name if (component_dir / "slots" / name).is_dir() else None
    return None


def point(component_dir: Path, pointer: str, slot: str | None) -> None:
    """Let a pointer name another slot in one atomic step, or remove it; on disk when this returns."""
    if slot is None:
        (component_dir / pointer).unlink(missing_ok=True)
    else:
        partial = component_dir / f".{pointer}.new"
        partial.unlink(missing_ok=True)
        partial.symlink_to(Path("slots") / slot)
        partial.replace(component_dir / pointer)
    sync_directory(component_dir)


def condemn(component_dir: Path, digest: str, reason: str) -> None:
    """Mark a digest as one that this device never tries again."""
    if not (directory := component_dir / "condemned").is_dir():
        directory.mkdir(exist_ok=True)
        sync_directory(component_dir)
    write(directory / digest, {"digest": digest, "reason": reason})


def on_trial(component_dir: Path) -> dict[str, Any] | None:
    """Give what guard.json says of the release that runs unconfirmed, or None if none does."""
    current, path = slot_of(component_dir, "current"), component_dir / "guard.json"
    if current is None or current == slot_of(component_dir, "good"):  # absent, or confirmed already
        return None
    state = read(path)
    if state is None and path.exists():  # damaged: what is current and not good is on trial all the same
        state = {"armed": True, "slot": current}
    armed = state is not None and state.get("armed") is True and state.get("slot") == current
    return {**state, "starts": number(state, "starts", 0)} if state and armed else None


def number(state: dict[str, Any], name: str, instead: int) -> int:
    return state[name] if isinstance(state.get(name), int) else instead


def count_start(component_dir: Path) -> str | None:
    """Count one start; take an unconfirmed release back that has had its starts, and say so. Raises OSError."""
    if (state := on_trial(component_dir)) is None:
        return None
    state["starts"] += 1
    if state["starts"] <= number(state, "starts_allowed", STARTS_ALLOWED):
        try:
            return write(component_dir / "guard.json", state)
        except OSError as error:
            state["sentence"] = f"this start could not be counted ({error.strerror})"
    return take_back(component_dir, state)


def ended(component_dir: Path, start: str) -> None:
    """Take a start that ended in order off the count: no abnormal end. Once a start, ENDS_EXCUSED times a release."""
    state = on_trial(component_dir) or {"starts": 0}
    excused = number(state, "ends_excused", 0)
    if state["starts"] > 0 and excused < ENDS_EXCUSED and state.get("ended_boot") != start:
        more = {"starts": state["starts"] - 1, "ends_excused": excused + 1, "ended_boot": start}
        write(component_dir / "guard.json", {**state, **more})


def take_back(component_dir: Path, state: dict[str, Any]) -> str:
    """Note, condemn, move the pointer, disarm: in this order, so that the next start finishes what was cut off."""
    slot, good = str(state["slot"]), slot_of(component_dir, "good")
    digest = str(state.get("digest") or slot)
    why = state.get("sentence") or f"{state['starts'] - 1} starts did not last"
    back = "the last known good runs again" if good else "it was the first install: the component is absent again"
    sentence = f"the guard took {digest[:16]} back: {why}; {back}"
    with suppress(OSError):  # a full disk may refuse note and mark: the agent sees all the same that it was moved
        write(component_dir / "note.json", {"digest": digest, "slot": slot, "sentence": sentence})
    with suppress(OSError):
        condemn(component_dir, digest, sentence)
    point(component_dir, "current", good)
    with suppress(OSError):
        write(component_dir / "guard.json", {**state, "armed": False})
    return sentence


def start(component_dir: Path, command: list[str]) -> NoReturn:
    """Count, heal if need be, and become the protected component."""
    try:
        with locked(component_dir):
            sentence = count_start(component_dir)
    except OSError as error:
        sentence = f"the guard could not take the release back: {error}"
    if sentence:
        say(sentence)
    if slot_of(component_dir, "current") is None:
        say(f"nothing to start, {component_dir / 'current'} names no release")
        sys.exit(EXIT_ABSENT)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        say(f"cannot run {command[0]}: {error.strerror}")
        sys.exit(EXIT_NO_COMMAND)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--component-dir", directory, "--ended"]:
            with suppress(OSError), locked(Path(directory)):
                ended(Path(directory), boot_id())
        case ["--component-dir", directory, "--", _, *_]:
            start(Path(directory), arguments[3:])
        case _:
            sys.stderr.write("usage: guard.py --component-dir DIR [--ended | -- COMMAND...]\n")
            sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
