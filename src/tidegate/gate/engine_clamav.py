"""ClamAV as an interpreter of the gate: `clamscan` with the payload as its only signature database."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tidegate.core.errors import Refused
from tidegate.gate.engine_command import CommandInterpreter
from tidegate.gate.interpreters import PAYLOAD, Loaded, Match, Runner
from tidegate.gate.jobs import Ran
from tidegate.gate.nearest import broken_at
from tidegate.gate.settings import InterpreterSettings

MOST_TRACED, MOST_LINES = 20, 1_000_000
"""Where ClamAV names no line: among so many files, of so many lines each, it is looked for."""
SUFFIXES = (
    ".cdb", ".cfg", ".cvd", ".cld", ".cud", ".fp", ".ftm", ".hdb", ".hdu", ".hsb", ".hsu", ".idb", ".ign", ".ign2",
    ".imp", ".ldb", ".ldu", ".mdb", ".mdu", ".msb", ".msu", ".ndb", ".ndu", ".pdb", ".sfp", ".wdb", ".yar", ".yara",
    ".cbc", ".gdb", ".cat", ".crb", ".db", ".sdb", ".rmd", ".zmd", ".ioc", ".pwdb", ".info",
)  # fmt: skip
_SCAN = ("clamscan", "--database=" + PAYLOAD, "--no-summary", "--stdout", "--allmatch")
_QUIET = ("--official-db-only=no", "--max-filesize=64M", "--max-scansize=256M", "--tempdir=/tmp")
_LINE = re.compile(r"at line (\d+)")
_YARA = re.compile(r"yyerror\(\): (?:\S*?payload/)?(\S+) line (\d+) ([^\n]*)")
_SKIPPED = re.compile(r"skipping YARA\.(\w+)")
_UNSIGNED = "it leaves the file out: its bytecode is not signed"
_FILE = re.compile(r"Can't load \S*?payload/(\S+?):")


class ClamavInterpreter(CommandInterpreter):
    """The installed clamscan. Its exit codes: 0 nothing found, 1 found, 2 an error."""

    kind = "clamav"
    takes = (0, 1)
    batch = 100_000
    tells = True

    def __init__(self, runner: Runner, name: str = "") -> None:
        """Take the sandbox."""
        settings = InterpreterSettings(
            kind="command",
            driver="clamav",
            load=(*_SCAN, *_QUIET, "/etc/ld.so.cache"),
            scan=(*_SCAN, *_QUIET, "--file-list={files}"),
        )
        super().__init__(runner, settings, Path("/"))
        self._given = name
        self._version = ""
        self.name = name or "ClamAV"

    def version(self) -> str:
        """Give the engine's version. Raises Refused if clamscan is not installed."""
        if not self._version:
            if shutil.which("clamscan") is None:
                raise Refused("clamscan is not on this machine; install ClamAV (on Debian: apt-get install clamav)")
            said = subprocess.run(["clamscan", "--version"], capture_output=True, text=True, timeout=60, check=False)
            self._version = said.stdout.strip().split("/")[0].removeprefix("ClamAV ") or "unknown"
            self.name = self._given or f"ClamAV {self._version}"
        return self._version

    def content_files(self, payload: Path) -> list[str]:
        """Give the signature files."""
        return [name for name in super().content_files(payload) if name.lower().endswith(SUFFIXES)]

    def load(self, payload: Path, within_s: int = 0) -> Loaded:
        """Let clamscan take the signatures and look at one small file: it fails on a database that it cannot read."""
        found = self._load(payload, within_s)
        return found if found.ok or found.crashed or found.line else self._traced(payload, found)

    def attempt(self, variants: Path, names: Sequence[str], each_s: int) -> dict[str, Loaded]:
        """Load each variant in a sandbox of its own."""
        return {name: self._load(variants / name) for name in names}

    def _load(self, payload: Path, within_s: int = 0) -> Loaded:
        if not self.content_files(payload):
            return Loaded(False, sentence="the payload holds no signatures that ClamAV knows by their suffix")
        found = super().load(payload, within_s)
        if found.sentence == _UNSIGNED:
            return replace(found, file=next((n for n in self.content_files(payload) if n.endswith(".cbc")), ""))
        skipped = _SKIPPED.search(found.sentence)
        if skipped is None:
            return found
        for name in self.content_files(payload):
            rule = re.search(
                rf"\brule\s+{re.escape(skipped[1])}\b", (payload / name).read_bytes().decode(errors="replace")
            )
            if rule is not None:
                return replace(found, file=name, line=rule.string.count("\n", 0, rule.start()) + 1)
        return found

    def match(self, line: str) -> Match | None:
        """Read clamscan's line `PATH: NAME FOUND`."""
        path, colon, rest = line.rpartition(": ")
        if not colon or not rest.endswith(" FOUND"):
            return None
        # As it stands in the payload: what it finds by a rule of YARA's language it calls YARA.NAME.
        return Match(path, rest.removesuffix(" FOUND").removesuffix(".UNOFFICIAL").removeprefix("YARA."))

    def _taken(self, ran: Ran) -> Loaded:
        loaded = super()._taken(ran)
        if loaded.ok:
            return _left_out(ran) or loaded
        if loaded.crashed:
            return loaded
        line = _LINE.search(ran.stderr)
        file = _FILE.search(ran.stderr)
        sentence = " ".join(ran.stderr.replace("LibClamAV Error: ", "").split())[:300] or loaded.sentence
        return Loaded(False, sentence=sentence, file=file[1] if file else "", line=int(line[1]) if line else 0)

    def _packed(self, payload: Path, found: Loaded) -> Loaded:
        """Say where a packed database breaks off, for which ClamAV names no place."""
        names = [found.file] if found.file else self.content_files(payload)
        for name in names:
            if where := broken_at(payload / name):
                return replace(found, sentence=f"{found.sentence}; {where}", file=name)
        return found

    def _traced(self, payload: Path, found: Loaded) -> Loaded:
        """Find the line that ClamAV does not name, by letting it take ever fewer lines of one file alone."""
        placed = self._packed(payload, found)
        names = [placed.file] if placed.file else self.content_files(payload)
        if placed.sentence != found.sentence or found.sentence == _UNSIGNED or len(names) > MOST_TRACED:
            return placed
        with tempfile.TemporaryDirectory(prefix="tidegate-traced-") as directory:
            os.chmod(directory, 0o755)

            def refuses(name: str, lines: list[bytes]) -> bool:
                (Path(directory) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(directory) / name).write_bytes(b"".join(lines))
                said = CommandInterpreter.load(self, Path(directory))
                (Path(directory) / name).unlink()
                return not said.ok and said.sentence == found.sentence

            for name in names:
                lines = (payload / name).read_bytes().splitlines(keepends=True)
                if len(lines) <= MOST_LINES and refuses(name, lines):
                    first = bisect_left(range(1, len(lines)), True, key=lambda count: refuses(name, lines[:count]))
                    return replace(placed, file=name, line=first + 1)
        return placed


def _left_out(ran: Ran) -> Loaded | None:
    """See whether it left rules out and went on: devices would run without them, and nobody would know."""
    if wrong := _YARA.search(ran.stderr):
        return Loaded(False, sentence=f"it leaves the rule out: {wrong[3]}", file=wrong[1], line=int(wrong[2]))
    if _SKIPPED.search(ran.stderr):
        line = next(line for line in ran.stderr.splitlines() if _SKIPPED.search(line))
        return Loaded(False, sentence=f"it leaves the rule out: {line.partition(': ')[2]}")
    if "skipping load of unsigned bytecode" in ran.stderr:
        return Loaded(False, sentence=_UNSIGNED)
    return None
