"""Any program as an interpreter of the gate, by the commands that the settings name for it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tidegate.core.errors import Refused
from tidegate.core.wire import plain
from tidegate.gate.corpus import tree_marks
from tidegate.gate.interpreters import PAYLOAD, Files, Heard, Loaded, Match, Places, Runner, Scanned, split_place
from tidegate.gate.jobs import Job, Ran
from tidegate.gate.settings import InterpreterSettings

MB = 1 << 20
BATCH = 200
"""Files for one start of the program; a batch in which it dies is tried again file by file."""
_MEASURED = "@measured "


class CommandInterpreter:
    """A program that takes content and looks at files, as its vendor's words say."""

    kind = "command"
    separable = False
    takes = (0,)
    """Exit codes of `load` that mean that the content was taken."""
    batch = BATCH

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

    def load(self, payload: Path) -> Loaded:
        """Run its load command."""
        return self._taken(self._run(self._settings.load, [(payload, PAYLOAD)]))

    def scan(
        self, payload: Path, files: Files, places: Places, heard: Heard | None = None, *, compiled: bool = False
    ) -> Scanned:
        """Run its scan command over the files, in batches."""
        loaded = self.load(payload)
        if not loaded.ok or not self._settings.scan:
            return Scanned(loaded)
        matches: list[Match] = []
        trouble: list[tuple[str, str]] = []
        cpu_s, peak_mb, looked = 0.0, 0.0, 0
        paths = [path for path, _ in files]
        usual_s = min(3 * self._runner.file_cpu_s + sum(size for _, size in files) // MB, self._runner.limits.cpu_s)
        batches = [paths[i : i + self.batch] for i in range(0, len(paths), self.batch)]
        while batches:
            batch = batches.pop(0)
            bound_s = usual_s if len(batch) > 1 else self._runner.file_cpu_s
            ran = self._run(self._settings.scan, [(payload, PAYLOAD), *places], batch, bound_s)
            if ran.ok or (ran.code == 1 and not ran.stopped):
                used, peak = _measured(ran)
                lines = ran.stdout.decode(errors="replace").splitlines()
                matches += [found for line in lines if (found := self.match(line)) is not None]
                cpu_s, peak_mb, looked = cpu_s + used, max(peak_mb, peak), looked + len(batch)
            elif len(batch) > 1:
                batches[:0] = [[path] for path in batch]
            else:
                why = ran.sentence if ran.crashed else f"{ran.sentence}: {ran.last_line}"
                if ran.code == 128 + 24:
                    why = f"used more than {bound_s} s of CPU and was ended"
                trouble.append((batch[0], f"scanning it, the interpreter {why}"))
                looked += 1
            if heard is not None:
                heard(looked)
        size = sum(size for _, size in files)
        return Scanned(loaded, tuple(matches), tuple(trouble), size, cpu_s, peak_mb)

    def attempt(self, variants: Path, names: Sequence[str], each_s: int) -> dict[str, Loaded]:
        """Load each variant in a sandbox of its own."""
        return {name: self.load(variants / name) for name in names}

    def match(self, line: str) -> Match | None:
        """Read a line of what a scan printed; None if it tells of no match."""
        sample, tab, rest = line.partition("\t")
        rule, _, file = rest.partition("\t")
        return Match(sample, rule.strip(), file.strip()) if tab else None

    def _run(
        self, words: Sequence[str], read: Sequence[tuple[Path, str]], files: Sequence[str] = (), cpu_s: int = 0
    ) -> Ran:
        filled = [word.replace("{payload}", PAYLOAD).replace("{files}", "/dev/stdin") for word in words]
        if shutil.which(filled[0]) is None:
            raise Refused(f"the interpreter {self.name} is not on this machine: there is no program {filled[0]}")
        measured = (sys.executable, "-I", str(Path(__file__).with_name("inside") / "measured.py"), *filled)
        listed = "".join(f"{path}\n" for path in files).encode(errors="surrogateescape")
        limits = replace(self._runner.limits, cpu_s=cpu_s or self._runner.limits.cpu_s)
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
