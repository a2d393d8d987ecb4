"""Starts the agent, and starts it again when it ends: what stays the same while the agent updates itself.

    python -I -S launch.py --home HOME [--component agent] [--trial-s 1800] [--delay-s 1] [-- COMMAND...]

It runs `tidegate-agent` (or `tidegate-agent.pyz`) from the slot that `current` of the agent's own component names, and
COMMAND, the agent that was installed with this file, where there is none. The guard counts each start of an agent that
is not confirmed; one that dies too often goes back, and so does one that lives and does not prove itself in time. Needs
the standard library and guard.py alone, no network, and nothing of the agent that was updated.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

if not __package__:  # run as a file: with neither the agent's directory nor any package in the way
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tidegate.agent import guard

SLOT, COMPONENT = "TIDEGATE_AGENT_SLOT", "TIDEGATE_AGENT_COMPONENT"
"""What the agent is told of itself: the slot that it was started from (empty: the installed one), and its component."""
PROGRAMS = ("tidegate-agent", "tidegate-agent.pyz")
AGAIN = 75
"""The agent's exit code that asks for another start at once: its pointer has moved."""
USAGE = 2
LONGEST_DELAY_S, LASTED_S = 60.0, 60.0
TERM_S = 20.0
LOOK_S = 0.2


def program_of(slot: Path) -> list[str]:
    """Give the command of the agent in a slot, or nothing if it has none."""
    for name in PROGRAMS:
        if (slot / name).is_file():
            return [sys.executable, str(slot / name)] if name.endswith(".pyz") else [str(slot / name)]
    return []


class Launcher:
    """One agent process at a time. `installed` is the command of the agent that came with this file."""

    def __init__(self, home: Path, component: str, installed: list[str], trial_s: float, delay_s: float) -> None:
        self.home, self.component, self.installed = home, component, installed
        self.trial_s, self.delay_s = trial_s, delay_s
        self.directory = home / "components" / component
        self.child: subprocess.Popen[bytes] | None = None
        self.ending = False
        self.ending_since = 0.0
        self.failures = 0

    def run(self) -> int:
        """Start the agent until told to end; the exit code is the last agent's."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        while True:
            self._count()
            slot = guard.slot_of(self.directory, "current")
            began = time.monotonic()
            code = self._live(slot, began)
            if self.ending:
                self._ended_in_order()
                return code if code >= 0 else 0
            if code == USAGE and slot is None:  # not enrolled, or called wrongly: trying again is of no use
                return code
            self._pause(code, time.monotonic() - began)

    def _count(self) -> None:
        """Count this start, and go back if that is due: before anything of the agent runs."""
        if not self.directory.is_dir():
            return
        try:
            with guard.locked(self.directory):
                sentence = guard.count_start(self.directory)
        except OSError as error:
            sentence = f"the guard could not take the release back: {error}"
        if sentence:
            guard.say(sentence)

    def _live(self, slot: str | None, began: float) -> int:
        """Run one agent to its end; one on trial only so long. Gives its exit code, negative: the signal."""
        command = program_of(self.directory / "slots" / slot) if slot else self.installed
        if not command and slot == guard.slot_of(self.directory, "good"):
            guard.say(f"the agent's slot {slot} has no {PROGRAMS[0]}; the installed agent runs instead")
            slot, command = None, self.installed
        environment = {**os.environ, SLOT: slot or "", COMPONENT: self.component}
        try:
            self.child = subprocess.Popen([*command, "--home", str(self.home)] if slot else command, env=environment)
        except (OSError, IndexError) as error:
            guard.say(f"the agent in slot {slot} cannot be started: {getattr(error, 'strerror', None) or error}")
            return guard.EXIT_NO_COMMAND
        allowed_s = self.trial_s + self._soak_s(slot)
        on_trial = slot is not None
        while True:
            try:
                return self.child.wait(LOOK_S if on_trial or self.ending else 5.0)
            except subprocess.TimeoutExpired:
                on_trial = on_trial and guard.on_trial(self.directory) is not None
                if self.ending:  # it may have been told before there was a child to pass it on to
                    late = time.monotonic() - self.ending_since > TERM_S
                    self.child.kill() if late else self.child.terminate()
                if on_trial and time.monotonic() - began > allowed_s and not self.ending:
                    self._give_up(self.child, allowed_s)

    def _give_up(self, child: subprocess.Popen[bytes], allowed_s: float) -> None:
        """End an agent that lives and was not confirmed: it may be anything but well."""
        _stop(child)
        with suppress(OSError), guard.locked(self.directory):
            if (state := guard.on_trial(self.directory)) is not None:
                state["sentence"] = f"it ran for {allowed_s:.0f} s and did not prove itself"
                guard.say(guard.take_back(self.directory, state))

    def _soak_s(self, slot: str | None) -> float:
        """How long the release's own soak takes, as far as its manifest can be read."""
        try:
            manifest = json.loads((self.directory / "slots" / str(slot) / ".manifest.json").read_bytes())
            return float(manifest["health"]["soak_s"])
        except (OSError, ValueError, LookupError, TypeError):
            return 0.0

    def _pause(self, code: int, lasted_s: float) -> None:
        """Wait before the next start, longer after each one that did not last."""
        if code == AGAIN:
            return
        self.failures = 0 if lasted_s > LASTED_S else self.failures + 1
        on_trial = guard.on_trial(self.directory) is not None
        wait_s = self.delay_s if on_trial else min(LONGEST_DELAY_S, self.delay_s * 2 ** min(self.failures - 1, 10))
        guard.say(f"the agent ended with {code}; it is started again in {wait_s:.1f} s")
        give_up = time.monotonic() + wait_s
        while time.monotonic() < give_up and not self.ending:
            time.sleep(min(LOOK_S, wait_s))
        if self.ending:
            sys.exit(0)

    def _ended_in_order(self) -> None:
        """Who is told to end has not failed: this start is taken off the count, a few times a release."""
        with suppress(OSError), guard.locked(self.directory):
            guard.ended(self.directory, f"{guard.boot_id()}.{os.getpid()}")

    def _end(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.ending, self.ending_since = True, time.monotonic()
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(TERM_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def main(arguments: list[str]) -> int:
    import argparse  # not for the agent, which reads this file's words and keeps what it loads

    parser = argparse.ArgumentParser(prog="tidegate agent launch", description=__doc__, allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--component", default="agent")
    parser.add_argument("--trial-s", type=float, default=1800.0)
    parser.add_argument("--delay-s", type=float, default=1.0)
    parser.add_argument("command", nargs="*", help="the installed agent")
    options = parser.parse_args(arguments)
    home = options.home.absolute()
    installed = options.command or [sys.executable, "-m", "tidegate.agent", "--home", str(home)]
    return Launcher(home, options.component, installed, options.trial_s, options.delay_s).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
