"""Inside the sandbox: compiles a payload's rules in YARA-X and scans files with them, as the device's engine does.

It reads one JSON object: {mode: load | scan | try, payload, files: [path ...], file_cpu_s, variants: [directory ...],
each_s, compiled, most_kept} and prints one JSON value a line; before each file `@N`, so that who finds it dead knows
where it died. `compiled`: a file with the same rules, compiled before; `most_kept`: tell them, up to so many bytes.
"""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yara_x

from tidegate.drivers.yara_rules import EXIT_FAULT, RulesFault, compile_rules


def tell(**value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def allow_cpu(seconds: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(cpu_s() + seconds + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def load(payload: str, compiled: str = "") -> yara_x.Rules:
    began = cpu_s()
    warnings: list[str] = []
    if compiled:
        with open(compiled, "rb") as file:
            rules = yara_x.Rules.deserialize_from(file)
    else:
        rules, warnings = compile_rules(Path(payload))
    names = [(rule.namespace, rule.identifier) for rule in rules]
    tell(loaded=len(names), names=names, warnings=warnings[:200], load_cpu_s=cpu_s() - began, version=version("yara-x"))
    return rules


def give(rules: yara_x.Rules, most: int) -> None:
    """Tell the compiled rules, where they are not too large to be kept."""
    buffer = io.BytesIO()
    rules.serialize_into(buffer)
    if len(buffer.getvalue()) <= most:
        tell(compiled=base64.b64encode(buffer.getvalue()).decode())


def scan(asked: dict[str, Any]) -> None:
    rules = load(asked["payload"], asked.get("compiled", ""))
    scanner = yara_x.Scanner(rules)
    sys.stdout.flush()
    began, size = cpu_s(), 0
    for number, path in enumerate(asked["files"]):
        os.write(1, b"@%d\n" % number)
        allow_cpu(asked["file_cpu_s"])
        start = time.process_time()
        try:
            with open(path, "rb") as file:
                data = file.read()
            found = scanner.scan(data).matching_rules
        except (OSError, yara_x.ScanError) as error:
            tell(trouble=number, said=str(error))
            continue
        size += len(data)
        used = time.process_time() - start
        if found or used > 1.0:
            tell(file=number, matches=[(rule.namespace, rule.identifier) for rule in found], cpu_s=used)
            sys.stdout.flush()
    tell(done=len(asked["files"]), bytes=size, scan_cpu_s=cpu_s() - began, peak_mb=peak_mb())


def attempt(asked: dict[str, Any]) -> None:
    """Compile each variant in a child of its own: one that dies takes no other with it."""
    for name in asked["variants"]:
        sys.stdout.flush()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            code = 0
            try:
                compile_rules(Path(asked["payload"]) / name)
            except (RulesFault, OSError) as error:
                os.write(writing, str(error).encode(errors="replace")[:500])
                code = EXIT_FAULT
            except BaseException as error:
                os.write(writing, f"{type(error).__name__}: {error}".encode(errors="replace")[:500])
                code = 99
            os._exit(code)
        os.close(writing)
        status = wait(child, asked["each_s"])
        said = os.read(reading, 500).decode(errors="replace")
        os.close(reading)
        code = None if status is None else os.waitstatus_to_exitcode(status)
        tell(variant=name, code=code, said=said)


def wait(child: int, seconds: float) -> int | None:
    give_up = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > give_up:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def main() -> int:
    asked = json.load(sys.stdin)
    try:
        if asked["mode"] == "try":
            attempt(asked)
        elif asked["mode"] == "scan":
            scan(asked)
        else:
            rules = load(asked["payload"])
            tell(done=0, bytes=0, scan_cpu_s=0.0, peak_mb=peak_mb())
            if asked.get("most_kept"):
                give(rules, asked["most_kept"])
    except (RulesFault, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAULT
    return 0


if __name__ == "__main__":
    sys.exit(main())
