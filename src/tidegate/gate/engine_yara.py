"""YARA-X as an interpreter of the gate: the version of this environment, or that of another one which is named."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import tidegate
from tidegate.core.errors import Refused
from tidegate.drivers.yara_rules import COMPILE_CPU_S, COMPILE_MEMORY_MB, SUFFIXES
from tidegate.gate.compiled import MOST_BYTES, Compiled
from tidegate.gate.interpreters import (
    PAYLOAD,
    VARIANTS,
    Files,
    Heard,
    Loaded,
    Match,
    Places,
    Runner,
    Scanned,
    split_place,
)
from tidegate.gate.jobs import OVER, Job, Limits, Ran

COMPILED = "/compiled"
_CODE = "import importlib.metadata as m, sys; print(m.version('yara-x')); print(sys.prefix); print(sys.base_prefix)"


class YaraInterpreter:
    """One version of YARA-X."""

    kind = "yara-x"
    separable = True

    def __init__(self, runner: Runner, python: str = "", name: str = "", compiled: Compiled | None = None) -> None:
        """Take the sandbox; `python` names another environment's interpreter; `compiled`: where rules are kept."""
        self._compiled = compiled
        self._runner, self._python, self._given = runner, python or sys.executable, name
        self._also: list[tuple[Path, str]] = []
        self.own = self._python == sys.executable
        """Whether it is the version of this environment."""
        self._version = ""

    @property
    def name(self) -> str:
        """What reports call it."""
        return self._given or f"YARA-X {self.version()}"

    def version(self) -> str:
        """Give the version that this Python has. Raises Refused if it has none."""
        if self._version:
            return self._version
        if self._python == sys.executable:
            from importlib.metadata import version

            self._version = version("yara-x")
            return self._version
        try:
            done = subprocess.run([self._python, "-c", _CODE], capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Refused(f"the interpreter {self._python} cannot be run: {error}") from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise Refused(f"the interpreter {self._python} has no yara-x: {said}")
        self._version, *places = done.stdout.split("\n")[:3]
        self._also = [(Path(place), place) for place in dict.fromkeys(places) if not place.startswith("/usr")]
        return self._version

    def fingerprint(self) -> Any:
        """Give the version, and for this environment's own the digest of its program as well."""
        return [self.version(), _build() if self.own else self._python]

    def kept(self, payload: Path) -> Path | None:
        """Give the file with a payload's rules as they were compiled before, if there is one."""
        return self._compiled.find(self.fingerprint(), self._digests(payload)) if self._compiled else None

    def _digests(self, payload: Path) -> dict[str, str]:
        names = self.content_files(payload)
        return {name: hashlib.sha256((payload / name).read_bytes()).hexdigest() for name in names}

    def content_files(self, payload: Path) -> list[str]:
        """Give the rule files."""
        found = (path for path in payload.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        return sorted(path.relative_to(payload).as_posix() for path in found)

    def fields(self) -> dict[str, int]:
        """Rules declare no fields."""
        return {}

    def load(self, payload: Path, within_s: int = 0) -> Loaded:
        """Compile the rules within the limits that a device's driver sets, and keep what comes of it."""
        asked = {"mode": "load", "payload": PAYLOAD, "most_kept": MOST_BYTES if self._compiled else 0}
        own = self._runner.limits
        limits = replace(own, cpu_s=min(own.cpu_s, COMPILE_CPU_S), memory_mb=min(own.memory_mb, COMPILE_MEMORY_MB))
        limits = limits.within(within_s)
        ran = self._run(asked, [(payload, PAYLOAD)], limits=replace(limits, output_mb=2 * MOST_BYTES >> 20))
        values = _values(ran.stdout)
        found = _loaded(ran, values)
        told = next((value["compiled"] for value in values if "compiled" in value), None)
        if found.ok and ran.ok and self._compiled and isinstance(told, str):
            with suppress(ValueError):
                self._compiled.keep(self.fingerprint(), self._digests(payload), base64.b64decode(told, validate=True))
        return found

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
        """Compile and scan; a file that ends the interpreter is left out of the next run over the rest."""
        kept = self.kept(payload) if compiled else None
        if kept is not None:
            places = [*places, (kept, COMPILED)]
        left, looked = [path for path, _ in files], 0
        matches: list[Match] = []
        trouble: list[tuple[str, str]] = []
        size, cpu_s, peak_mb = 0, 0.0, 0.0
        patience = self._runner.patience
        while True:
            bound_s = each_s or patience.bound_s(self._runner.file_cpu_s)
            asked = {"mode": "scan", "payload": PAYLOAD, "files": left, "file_cpu_s": bound_s}
            asked["compiled"] = COMPILED if kept is not None else ""
            counter = _Counter(looked, heard)
            ran = self._run(asked, [(payload, PAYLOAD), *places], counter)
            values = _values(ran.stdout)
            loaded = _loaded(ran, values)
            if not loaded.ok:
                return Scanned(loaded)
            for value in values:
                if "file" in value:
                    matches += [Match(left[value["file"]], rule, file) for file, rule in value["matches"]]
                elif "trouble" in value:
                    trouble.append((left[value["trouble"]], f"it gave up: {value['said']}"))
                elif "done" in value:
                    size, cpu_s, peak_mb = size + value["bytes"], cpu_s + value["scan_cpu_s"], value["peak_mb"]
            if any("done" in value for value in values):
                return Scanned(loaded, tuple(matches), tuple(trouble), size, cpu_s, peak_mb)
            died_at = max(counter.at, 0)
            died = left[died_at] if left else "(nothing)"
            over = ran.code == OVER and not each_s
            why = patience.why(bound_s, self._runner.file_cpu_s) if over else ran.sentence
            trouble.append((died, f"scanning it, the interpreter {why}"))
            left, looked = left[died_at + 1 :], looked + died_at + 1
            if not left or len(trouble) >= patience.most_deaths:
                return Scanned(loaded, tuple(matches), tuple(trouble), size, cpu_s, ran.peak_mb)

    def attempt(self, variants: Path, names: Sequence[str], each_s: int) -> dict[str, Loaded]:
        """Compile each variant in a process of its own, all in one sandbox."""
        asked = {"mode": "try", "payload": VARIANTS, "variants": list(names), "each_s": each_s}
        ran = self._run(asked, [(variants, VARIANTS)])
        found: dict[str, Loaded] = {}
        for value in _values(ran.stdout):
            if "variant" in value:
                found[value["variant"]] = _attempted(value, each_s)
        for name in names:
            found.setdefault(
                name, Loaded(False, crashed=True, sentence=f"was not reached: the interpreter {ran.sentence}")
            )
        return found

    def _run(
        self,
        asked: dict[str, Any],
        read: Sequence[tuple[Path, str]],
        counter: _Counter | None = None,
        limits: Limits | None = None,
    ) -> Ran:
        self.version()
        package = str(Path(tidegate.__file__).resolve().parent.parent)
        job = Job(
            (self._python, "-B", "-m", "tidegate.gate.inside.yara_scan"),
            (*self._also, *read),
            json.dumps(asked).encode(),
            {"PYTHONPATH": package},
            limits or self._runner.limits,
        )
        return self._runner.run(job, counter)


@functools.cache
def _build() -> str:
    """Name this environment's YARA-X by what is in its files."""
    import yara_x

    text = hashlib.sha256()
    for path in sorted(Path(yara_x.__file__).parent.glob("*.so")) or [Path(yara_x.__file__)]:
        text.update(path.read_bytes())
    return text.hexdigest()


class _Counter:
    """Hears where a scan is, from its output as it comes."""

    def __init__(self, before: int, heard: Heard | None) -> None:
        self.at = -1
        self._before, self._heard, self._rest = before, heard, b""

    def __call__(self, piece: bytes) -> None:
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        marks = [line for line in lines if line.startswith(b"@")]
        if marks:
            self.at = int(marks[-1][1:])
            if self._heard is not None:
                self._heard(self._before + self.at + 1)


def _values(data: bytes) -> list[dict[str, Any]]:
    """Read what the program inside said; a line that is cut off or no object says nothing."""
    found: list[dict[str, Any]] = []
    for line in data.split(b"\n"):
        if line.startswith(b"{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def _loaded(ran: Ran, values: list[dict[str, Any]]) -> Loaded:
    head = next((value for value in values if "loaded" in value), None)
    if head is not None:
        names = tuple((str(file), str(rule)) for file, rule in head["names"])
        done = next((value for value in values if "done" in value), {})
        return Loaded(
            True,
            items=head["loaded"],
            names=names,
            warnings=tuple(head["warnings"]),
            cpu_s=head["load_cpu_s"],
            peak_mb=max(done.get("peak_mb", 0.0), ran.peak_mb),
        )
    file, line, text = split_place(ran.last_line)
    if ran.code == 2 and not ran.stopped:
        return Loaded(False, sentence=text, file=file, line=line)
    return Loaded(False, crashed=True, sentence=f"loading it, the interpreter {ran.sentence}", peak_mb=ran.peak_mb)


def _attempted(value: dict[str, Any], each_s: int) -> Loaded:
    file, line, text = split_place(value["said"])
    code = value["code"]
    if code == 0:
        return Loaded(True)
    if code == 2:
        return Loaded(False, sentence=text, file=file, line=line)
    how = f"did not end within {each_s} s" if code is None else f"ended with {code}"
    return replace(Loaded(False, crashed=True), sentence=f"{how}{': ' + text if text else ''}")
