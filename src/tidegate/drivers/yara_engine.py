"""The scanning process that the yara driver protects a directory with; it is what a bad release can break.

    python -m tidegate.drivers.yara_engine --rules CURRENT --watch DIR --quarantine DIR --status FILE

It compiles the rules that CURRENT names when it starts, scans every file in DIR, moves matching files to quarantine
(unless the rule says `action = "report"`), and then looks for changed files again and again. A file that takes more CPU
than allowed ends the process by SIGXCPU. While it lives it holds FILE.lock locked, which says its process id and the
file that it scans. It needs a POSIX system, and loads the standard library and YARA-X alone: a start costs little.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import yara_x

from tidegate.drivers import quarantine
from tidegate.drivers.yara_rules import COMPILE_CPU_S, RulesFault, compile_rules, limit

LOCK_WAIT_S = 1.0
FILE_LIMIT = 64 << 20
"""Bytes; a larger file is not scanned, and the status says so."""
LIST_LIMIT = 1000
LONG_PASS_S = 1.0
BEAT_PASSES = 5
"""So many passes with nothing new go by until the status says again that this engine lives."""
EXIT_FAULT, EXIT_BUSY = 2, 4
Seen = tuple[int, int, int, int]


class Engine:
    """One engine: its rules, what it has seen, and what it tells in its status file."""

    def __init__(self, options: argparse.Namespace, lock: int) -> None:
        self.options, self.lock = options, lock
        self.watch, self.quarantine = Path(options.watch).absolute(), Path(options.quarantine).absolute()
        self.rules_directory = Path(options.rules).resolve(strict=True)
        self.seen: dict[str, Seen] = {}
        self.detections: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        self.scanner: yara_x.Scanner | None = None
        self.moved = True
        self.report: dict[str, Any] = {
            "pid": os.getpid(), "digest": self.rules_directory.name, "rules": 0, "scanned": 0, "passes": 0,
            "quarantined": [], "state": "starting",
        }  # fmt: skip

    def tell(self) -> None:
        """Replace the status file. It is about this process alone, so that nothing is lost with the power.

        A full disk must not end the protection: the driver sees that the status grows old.
        """
        report = self.report
        self.detections = dict(list(self.detections.items())[-LIST_LIMIT:])
        self.skipped = dict(list(self.skipped.items())[-LIST_LIMIT:])
        report["detections"], report["skipped"] = list(self.detections.values()), self.skipped
        report["at"], report["beat_s"] = int(time.time()), round(time.monotonic(), 3)
        partial = f"{self.options.status}.new"
        with suppress(OSError):
            Path(partial).write_text(json.dumps(report), encoding="utf-8")
            os.replace(partial, self.options.status)

    def note_progress(self, path: str) -> None:
        """Say in the lock file which file is being scanned, for who finds this process dead."""
        text = f"{os.getpid()}\n{path}\n".encode(errors="surrogateescape")
        with suppress(OSError):
            os.pwrite(self.lock, text, 0)  # before it is cut: who reads in between must not miss the process id
            os.ftruncate(self.lock, len(text))

    def allow_cpu(self, seconds: int) -> None:
        """Let this process use so much more CPU from now on, give or take half a second, before SIGXCPU ends it."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft, hard = max(1, round(used.ru_utime + used.ru_stime + seconds)), resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Walk the watched directory: (path within it, status) of each plain file; links are not followed."""
        open_directories, own, above = [str(self.watch)], str(self.quarantine), len(str(self.watch)) + 1
        while open_directories:
            with suppress(OSError), os.scandir(open_directories.pop()) as entries:  # it may vanish meanwhile
                for entry in sorted(entries, key=lambda found: found.name):
                    with suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            if entry.path != own:
                                open_directories.append(entry.path)
                        elif stat.S_ISREG((found := entry.stat(follow_symlinks=False)).st_mode):
                            yield entry.path[above:], found

    def matching(self, data: bytes) -> list[yara_x.Rule]:
        """Scan within the CPU limit of one file; the rules that match, those that quarantine first."""
        assert self.scanner is not None
        self.allow_cpu(self.options.cpu_s)
        rules = self.scanner.scan(data).matching_rules
        return sorted(rules, key=lambda rule: dict(rule.metadata).get("action") == "report")

    def scan(self, path: str, found: os.stat_result) -> None:
        self.detections.pop(path, None)
        self.skipped.pop(path, None)
        if found.st_size > FILE_LIMIT:
            self.skipped[path] = f"larger than {FILE_LIMIT} bytes"
            return
        self.note_progress(path)
        if time.monotonic() - self.report["beat_s"] > LONG_PASS_S:
            self.tell()
        try:
            data = (self.watch / path).read_bytes()
            rules = self.matching(data)
        except (OSError, yara_x.ScanError) as error:
            self.skipped[path] = str(error)
            return
        self.report["scanned"] += 1
        if rules:
            self.act(path, found, rules, data)

    def act(self, path: str, found: os.stat_result, rules: list[yara_x.Rule], data: bytes) -> None:
        """Note a detection and take the file away, unless it has changed or every rule that matches only reports."""
        record = {
            "path": path, "rule": rules[0].identifier, "namespace": rules[0].namespace, "at": int(time.time()),
            "digest": self.report["digest"], "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
        action = "report" if dict(rules[0].metadata).get("action") == "report" else "quarantine"
        self.detections[path] = {
            "path": path, "rules": [rule.identifier for rule in rules][:20], "action": action,
            "sha256": record["sha256"], "at": record["at"], "beat_s": round(time.monotonic(), 3),
        }  # fmt: skip
        if action == "report":
            return
        try:
            if seen(os.lstat(self.watch / path)) == seen(found):
                quarantine.take(self.quarantine, self.watch, record)
                self.moved = True
        except OSError as error:
            self.skipped[path] = f"could not be quarantined: {error.strerror}"

    def settle_quarantine(self) -> None:
        """Put back what another release's rules took and these rules do not: the harm of a bad release is undone."""
        digest = self.report["digest"]
        for name, record in quarantine.records(self.quarantine).items():
            if record["digest"] == digest:
                continue
            self.note_progress(f"(quarantined) {record['path']}")
            try:
                self.settle(name, record, digest)
            except (OSError, yara_x.ScanError) as error:
                self.skipped[record["path"]] = f"its quarantined copy {name} stays: {error}"

    def settle(self, name: str, record: quarantine.Record, digest: str) -> None:
        held = quarantine.content(self.quarantine, name)
        rules = self.matching(held.read_bytes()) if held.exists() else []
        if rules and dict(rules[0].metadata).get("action") != "report":
            again = {"rule": rules[0].identifier, "namespace": rules[0].namespace, "digest": digest}
            quarantine.relabel(self.quarantine, name, {**record, **again})
        elif not quarantine.give_back(self.quarantine, self.watch, name, record):
            self.skipped[record["path"]] = f"its quarantined copy {name} stays: another file stands in its place"

    def look(self) -> bool:
        """One pass: scan what is new or changed. Whether there was anything to tell."""
        seen_now: dict[str, Seen] = {}
        changed = False
        for path, found in self.files():
            seen_now[path] = seen(found)
            if self.seen.get(path) != seen_now[path]:
                changed = True
                self.scan(path, found)
        self.seen = seen_now
        if self.moved:
            self.report["quarantined"] = [record["path"] for record in quarantine.records(self.quarantine).values()]
            self.moved = False
        self.report["passes"] += 1
        return changed

    def compiled(self) -> yara_x.Rules | None:
        """Take these rules as they were compiled before, where they are at hand under their release's digest."""
        path = Path(self.options.compiled) / self.rules_directory.name
        if not self.options.compiled or not path.is_file():
            return None
        with path.open("rb") as file:
            return yara_x.Rules.deserialize_from(file)

    def run(self) -> NoReturn:
        self.tell()
        self.note_progress("(the rules are being compiled)")
        limit(COMPILE_CPU_S, self.options.memory_mb)
        rules = self.compiled() or compile_rules(self.rules_directory)[0]
        self.report["rules"] = len(list(rules))
        self.scanner = yara_x.Scanner(rules)
        self.settle_quarantine()
        while True:
            changed = self.look()
            if changed or self.report["passes"] % BEAT_PASSES == 1:
                self.note_progress("")
                self.allow_cpu(60)
                self.report["state"] = "watching"
                self.tell()
            time.sleep(self.options.interval)


def seen(found: os.stat_result) -> Seen:
    """What tells a changed file from an unchanged one."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def take_lock(status: str) -> int | None:
    """Lock this engine's file for as long as the process lives; None if another engine holds it."""
    descriptor = os.open(f"{status}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > give_up:
                return None
            time.sleep(0.02)
        else:
            os.ftruncate(descriptor, 0)  # a dead engine's process id may be anyone's by now
            return descriptor


def read_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tidegate-yara-engine", allow_abbrev=False)
    for name in ("rules", "watch", "quarantine", "status"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--compiled", default="")
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--cpu-s", type=int, default=10)
    parser.add_argument("--memory-mb", type=int, default=1024)
    return parser.parse_args(arguments)


def stop(_signal: int, _frame: object) -> NoReturn:
    """End now and in good order: every step here can be broken off."""
    raise SystemExit(0)


def main(arguments: list[str]) -> int:
    """Run until told to end (exit code 0). 2: the rules or directories cannot be used; 4: another engine runs."""
    options = read_options(arguments)
    os.environ["RUST_BACKTRACE"] = "0"  # out of memory, it would take seconds to die
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        lock = take_lock(options.status)
        if lock is None:
            sys.stderr.write("another engine already runs on this status file\n")
            return EXIT_BUSY
        Path(options.quarantine).mkdir(parents=True, exist_ok=True)
        if os.stat(options.watch).st_dev != os.stat(options.quarantine).st_dev:
            raise RulesFault("quarantine and watched directory must be on one file system; move the quarantine")
        Engine(options, lock).run()
    except (RulesFault, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAULT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
