"""The guard: run before the protected component, it heals a crash loop without the agent and without a network.

    python -S -E guard.py --component-dir DIR -- COMMAND...

It needs the standard library alone, and nothing of the agent but two files in DIR:

    guard.json   {"armed", "digest", "slot", "starts", "starts_allowed", ...}: written by the agent before it moves
                 the pointer, counted up here, disarmed once the release is confirmed or taken back
    note.json    written here for the agent to report, when a release was taken back

Each start of a release that is not confirmed counts, and is on disk before the component runs. One start more than
allowed, and `current` names the last known good again (or nothing, if there is none), and the digest is condemned.
Every step can be done twice: a power cut between two lines leads here again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS_ALLOWED = 2
LOCK_WAIT_S = 2.0
EXIT_USAGE, EXIT_ABSENT, EXIT_NO_COMMAND = 2, 3, 127


@contextmanager
def locked(component_dir: Path) -> Iterator[None]:
    """Keep guard and agent from moving the pointer at once; go on without after a while: a start must not hang."""
    try:
        import fcntl
    except ImportError:  # no flock on this system: the steps are still safe one by one
        yield
        return
    descriptor = os.open(component_dir / "guard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > give_up:
                    break
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
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
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def slot_of(component_dir: Path, pointer: str) -> str | None:
    """Give the name of the slot that a pointer names, or None if it names none that exists."""
    try:
        name = Path(os.readlink(component_dir / pointer)).name
    except OSError:
        return None
    return name if (component_dir / "slots" / name).is_dir() else None


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
    directory = component_dir / "condemned"
    if not directory.is_dir():
        directory.mkdir(exist_ok=True)
        sync_directory(component_dir)
    write(directory / digest, {"digest": digest, "reason": reason})


def count_start(component_dir: Path) -> str | None:
    """Count one start, and take an unconfirmed release back that has had its starts.

    Returns:
        What was done, as a sentence, or None if the start is an ordinary one.

    Raises:
        OSError: the pointer could not be moved; the start goes on rather than not at all.
    """
    current, good = slot_of(component_dir, "current"), slot_of(component_dir, "good")
    if current is None or current == good:  # absent, or confirmed already
        return None
    path = component_dir / "guard.json"
    state = read(path)
    if state is None and path.exists():  # damaged: what is current and not good is on trial all the same
        state = {"armed": True, "slot": current, "starts": 0}
    if state is None or state.get("armed") is not True or state.get("slot") != current:
        return None
    starts, allowed = state.get("starts", 0), state.get("starts_allowed", STARTS_ALLOWED)
    state["starts"] = starts = (starts if isinstance(starts, int) else 0) + 1
    if starts <= (allowed if isinstance(allowed, int) else STARTS_ALLOWED):
        try:
            write(path, state)
            return None
        except OSError as error:
            state["sentence"] = f"this start could not be counted ({error.strerror})"
    return take_back(component_dir, state, current, good)


def take_back(component_dir: Path, state: dict[str, Any], current: str, good: str | None) -> str:
    """Note, condemn, move the pointer, disarm: in this order, so that a cut in between is finished by the next start.

    A full disk may refuse the note and the mark; the pointer is moved all the same, and the agent sees that it was.
    """
    digest = str(state.get("digest") or current)
    why = state.get("sentence") or f"{int(state['starts']) - 1} starts did not last"
    back = "the last known good runs again" if good else "it was the first install: the component is absent again"
    sentence = f"the guard took {digest[:16]} back: {why}; {back}"
    with suppress(OSError):
        write(component_dir / "note.json", {"digest": digest, "slot": current, "sentence": sentence})
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
        sys.stderr.write(f"tidegate guard: {sentence}\n")
    if slot_of(component_dir, "current") is None:
        sys.stderr.write(f"tidegate guard: nothing to start, {component_dir / 'current'} names no release\n")
        sys.exit(EXIT_ABSENT)
    sys.stderr.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"tidegate guard: cannot run {command[0]}: {error.strerror}\n")
        sys.exit(EXIT_NO_COMMAND)


def main(arguments: list[str]) -> NoReturn:
    if len(arguments) < 4 or arguments[0] != "--component-dir" or arguments[2] != "--":
        sys.stderr.write("usage: guard.py --component-dir DIR -- COMMAND...\n")
        sys.exit(EXIT_USAGE)
    start(Path(arguments[1]), arguments[3:])


if __name__ == "__main__":
    main(sys.argv[1:])
