"""Any program as an interpreter of the gate, by the commands that the settings name for it."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tidegate.core.errors import Refused
from tidegate.core.wire import plain
from tidegate.gate.corpus import tree_marks
from tidegate.gate.interpreters import PAYLOAD, Files, Heard, Loaded, Match, Places, Runner, Scanned, split_place
from tidegate.gate.jobs import OVER, Job, Limits, Ran
from tidegate.gate.settings import InterpreterSettings

MB = 1 << 20
BATCH = 200
"""Files for one start of the program; a batch in which it dies is tried again file by file."""
_MEASURED = "@measured "


@dataclass(frozen=True, slots=True)
class Bounds:
    """CPU seconds of a run; and of each file that it tells of, the first with what comes before it."""

    cpu_s: int
    each_s: int = 0
    first_s: int = 0


class CommandInterpreter:
    """A program that takes content and looks at files, as its vendor's words say."""

    kind = "command"
    separable = False
    takes = (0,)
    """Exit codes of `load` that mean that the content was taken."""
    batch = BATCH
    tells = False
    """Whether its scan says a line of each file as it comes to its end, which begins with the file's path."""

    def __init__(self, runner: Runner, settings: InterpreterSettings, base: Path) -> None:
        """Take the sandbox and the settings; relative places lie below `base`."""
        self._runner, self._settings = runner, settings
        self._read = [((base / place).resolve(), str((base / place).resolve())) for place in settings.read]
        self.name = settings.name or settings.load[0]

    def version(self) -> str:
        """Give what its version command says, or what it is called. Raises Refused if that fails."""
        if not self._settings.version:
            return self.name
        ran = self._run(self._settings.version, [])
        if not ran.ok:
            raise Refused(f"the interpreter {self.name} does not say its version: it {ran.sentence} {ran.last_line}")
        return ran.stdout.decode(errors="replace").strip()[:100]

    def fingerprint(self) -> Any:
        """Give its settings, and what marks its programs and the places that it reads."""
        own = self._settings
        words = {command[0] for command in (own.load, own.scan, own.describe, own.version) if command}
        programs = [Path(found) for word in sorted(words) if (found := shutil.which(word))]
        marks = [tree_marks(place.resolve()) for place in (*programs, *(source for source, _ in self._read))]
        return [self.version(), plain(own), marks]

    def content_files(self, payload: Path) -> list[str]:
        """Give the files that fit the settings' patterns."""
        found = sorted(path.relative_to(payload).as_posix() for path in payload.rglob("*") if path.is_file())
        return [name for name in found if any(fnmatch(name, pattern) for pattern in self._settings.files)]

    def fields(self) -> dict[str, int]:
        """Ask the program how many fields of each content type it supplies."""
        if not self._settings.describe:
            return {}
        found: dict[str, int] = {}
        for line in self._run(self._settings.describe, []).stdout.decode(errors="replace").splitlines():
            name, tab, count = line.partition("\t")
            if tab and count.strip().isdecimal():
                found[name] = int(count)
        return found

    def load(self, payload: Path, within_s: int = 0) -> Loaded:
        """Run its load command."""
        limits = self._runner.limits.within(within_s)
        return self._taken(self._run(self._settings.load, [(payload, PAYLOAD)], limits=limits))

    def scan(
        self,
        payload: Path,
        files: Files,
        places: Places,
        heard: Heard | None = None,
        *,
        compiled: bool = False,
        each_s: int = 0,
    ) -> Scanned:
        """Run its scan command over the files, in batches."""
        loaded = self.load(payload)
        if not loaded.ok or not self._settings.scan:
            return Scanned(loaded)
        matches: list[Match] = []
        trouble: list[tuple[str, str]] = []
        cpu_s, peak_mb, looked = 0.0, 0.0, 0
        sizes, patience = dict(files), self._runner.patience
        batches = [list(sizes)[i : i + self.batch] for i in range(0, len(sizes), self.batch)]
        while batches and len(trouble) < patience.most_deaths:
            batch = batches.pop(0)
            each = each_s or patience.bound_s(self._runner.file_cpu_s)
            ran = self._looked(payload, batch, places, self._bounds(batch, sizes, each, loaded))
            lines = ran.stdout.decode(errors="replace").splitlines()
            if ran.ok or (ran.code == 1 and not ran.stopped):
                used, peak = _measured(ran)
                cpu_s, peak_mb, done = cpu_s + used, max(peak_mb, peak), len(batch)
            else:
                done = self._done(batch, lines)
                if done == 0 and len(batch) > 1 and not self.tells:
                    batches[:0] = [[path] for path in batch]
                elif done < len(batch):
                    why = _how(ran)
                    if ran.code == OVER and not each_s:
                        why = patience.why(each, self._runner.file_cpu_s)
                    trouble.append((batch[done], f"scanning it, the interpreter {why}"))
                    batches[:0] = [batch[done + 1 :]] if done + 1 < len(batch) else []
                    done += 1
                else:  # it told of them all, and ended badly all the same
                    bad = [line.rpartition(": ")[0] for line in lines if line.endswith(" ERROR")]
                    trouble += [(path, f"scanning it, the interpreter {_how(ran)}") for path in bad or batch[-1:]]
            matches += [found for line in lines if done and (found := self.match(line)) is not None]
            looked += done
            if heard is not None:
                heard(looked)
        return Scanned(loaded, tuple(matches), tuple(trouble), sum(sizes.values()), cpu_s, peak_mb)

    def _looked(self, payload: Path, batch: Sequence[str], places: Places, bounds: Bounds) -> Ran:
        return self._run(self._settings.scan, [(payload, PAYLOAD), *places], batch, bounds)

    def _bounds(self, batch: Sequence[str], sizes: Mapping[str, int], each_s: int, loaded: Loaded) -> Bounds:
        """Give what a batch may take: where its program tells each file, the files one by one are bounded."""
        own = self._runner.limits
        if self.tells:
            return Bounds(own.cpu_s, each_s, each_s + math.ceil(3 * loaded.cpu_s))
        usual_s = 3 * each_s + sum(sizes[path] for path in batch) // MB
        return Bounds(min(usual_s, own.cpu_s) if len(batch) > 1 else each_s)

    def _done(self, batch: Sequence[str], lines: Sequence[str]) -> int:
        """Give how many files of a batch were told of before it ended badly."""
        if not self.tells:
            return 0
        told = {line.rpartition(": ")[0] for line in lines}
        return max((number for number, path in enumerate(batch, start=1) if path in told), default=0)

    def attempt(self, variants: Path, names: Sequence[str], each_s: int) -> dict[str, Loaded]:
        """Load each variant in a sandbox of its own."""
        return {name: self.load(variants / name) for name in names}

    def match(self, line: str) -> Match | None:
        """Read a line of what a scan printed; None if it tells of no match."""
        sample, tab, rest = line.partition("\t")
        rule, _, file = rest.partition("\t")
        return Match(sample, rule.strip(), file.strip()) if tab else None

    def _run(
        self,
        words: Sequence[str],
        read: Sequence[tuple[Path, str]],
        files: Sequence[str] = (),
        bounds: Bounds | None = None,
        limits: Limits | None = None,
    ) -> Ran:
        filled = [word.replace("{payload}", PAYLOAD).replace("{files}", "/dev/stdin") for word in words]
        if shutil.which(filled[0]) is None:
            raise Refused(f"the interpreter {self.name} is not on this machine: there is no program {filled[0]}")
        each = [f"--each={bounds.each_s}", f"--first={bounds.first_s}"] if bounds and bounds.each_s else []
        program = str(Path(__file__).with_name("inside") / "measured.py")
        listed = "".join(f"{path}\n" for path in files).encode(errors="surrogateescape")
        limits = limits or replace(self._runner.limits, cpu_s=bounds.cpu_s if bounds else self._runner.limits.cpu_s)
        measured = (sys.executable, "-I", program, *each, *filled)
        return self._runner.run(Job(measured, (*self._read, *read), listed, {}, limits))

    def _taken(self, ran: Ran) -> Loaded:
        cpu_s, peak_mb = _measured(ran)
        if ran.code in self.takes and not ran.stopped:
            first = ran.stdout.decode(errors="replace").split("\n", 1)[0].strip()
            return Loaded(True, items=int(first) if first.isdecimal() else 0, cpu_s=cpu_s, peak_mb=peak_mb)
        if ran.crashed:
            return Loaded(False, crashed=True, sentence=f"loading it, the interpreter {ran.sentence}")
        file, line, text = split_place(ran.last_line)
        return Loaded(False, sentence=text or ran.sentence, file=file, line=line)


def _how(ran: Ran) -> str:
    return ran.sentence if ran.crashed else f"{ran.sentence}: {ran.last_line}"


def _measured(ran: Ran) -> tuple[float, float]:
    """Read the CPU seconds and peak MB that a run says of itself; its content may have lied about them."""
    cpu_s, peak_mb = 0.0, ran.peak_mb
    for line in ran.stdout.decode(errors="replace").splitlines():
        if line.startswith(_MEASURED):
            try:
                said = json.loads(line.removeprefix(_MEASURED))
                cpu_s, peak_mb = float(said["cpu_s"]), float(said["peak_mb"])
            except (ValueError, KeyError, TypeError):
                continue
    return cpu_s, peak_mb
