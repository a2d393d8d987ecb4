"""A small interpreter of the tests' own: records of typed fields, matched against inputs, as in July 2024.

    channel_engine.py [--supplied N] [--without-bounds] --load DIR | --scan DIR LIST | --describe | --version

A record is `name|verdict|criterion|criterion|...`; a criterion is a regular expression or `*`. A wildcard is never
looked up, so that a field too many hides behind one. Without bounds it reads past the end of its array, and dies.
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

HEAD = "# CHN1"


class Refusal(Exception):
    """Content that cannot be used, in good order."""


class Inputs:
    """The array of inputs, of a fixed length."""

    def __init__(self, supplied: int, bounds: bool, values: list[str]) -> None:
        self.supplied, self.bounds, self.values = supplied, bounds, values

    def __getitem__(self, number: int) -> str:
        if number >= self.supplied:
            if self.bounds:
                raise Refusal(f"field {number + 1} is not supplied, there are {self.supplied}")
            return str(ctypes.string_at(8 * number))  # an address where nothing is: the process ends by a signal
        return self.values[number] if number < len(self.values) else ""


class Engine:
    """Content, taken."""

    def __init__(self, directory: Path, supplied: int, bounds: bool) -> None:
        self.supplied, self.bounds = supplied, bounds
        self.records: list[tuple[str, str, int, list[str]]] = []
        for path in sorted(directory.glob("*.chn")):
            self.read(path)
        if not self.records:
            raise Refusal("no records")
        for name, file, line, fields in self.records:  # a first look, on inputs of its own
            self.matches(name, file, line, fields, ["0"] * supplied)

    def read(self, path: Path) -> None:
        lines = path.read_bytes().decode(errors="replace").split("\n")
        if lines[0] != HEAD:
            if not self.bounds:
                ctypes.string_at(0)
            raise Refusal(f"{path.name}:1: does not begin with {HEAD!r}")
        for number, line in enumerate(lines, start=1):
            if line and not line.startswith("#"):
                name, *rest = line.split("|")
                if len(rest) < 2:
                    raise Refusal(f"{path.name}:{number}: a record needs a verdict and fields")
                for field in rest[1:]:
                    try:
                        re.compile(field if field != "*" else "")
                    except (re.error, OverflowError) as error:
                        raise Refusal(f"{path.name}:{number}: {error}") from None
                self.records.append((name, path.name, number, rest[1:]))

    def matches(self, name: str, file: str, line: int, fields: list[str], values: list[str]) -> bool:
        inputs = Inputs(self.supplied, self.bounds, values)
        found = True
        for number, criterion in enumerate(fields):
            if criterion == "*":
                continue
            try:
                value = inputs[number]
            except Refusal as error:
                raise Refusal(f"{file}:{line}: {error}") from None
            found = re.fullmatch(criterion, value) is not None and found
        return found

    def scan(self, paths: list[str]) -> None:
        for path in paths:
            values = Path(path).read_bytes().decode(errors="replace").strip("\n").split("|")
            for name, file, line, fields in self.records:
                if self.matches(name, file, line, fields, values):
                    print(f"{path}\t{name}\t{file}", flush=True)


def main(words: list[str]) -> int:
    supplied, bounds = 20, True
    while words:
        word = words.pop(0)
        if word == "--supplied":
            supplied = int(words.pop(0))
        elif word == "--without-bounds":
            bounds = False
        elif word == "--version":
            print(f"channel engine {supplied}")
        elif word == "--describe":
            print(f"pipe\t{supplied}")
        elif word in ("--load", "--scan"):
            engine = Engine(Path(words.pop(0)), supplied, bounds)
            if word == "--load":
                print(len(engine.records))
            else:
                engine.scan(Path(words.pop(0)).read_text().splitlines())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refusal as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(2)
