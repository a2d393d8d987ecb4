"""Compiles a payload's rule files in YARA-X, and says in which file and line a fault is.

`python -m tidegate.drivers.yara_rules DIRECTORY` does it under limits of its own and prints one JSON object: the driver
looks at a payload in this way, so that rules which eat the compiler's memory or time take no agent down.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import yara_x

COMPILE_CPU_S = 60
COMPILE_MEMORY_MB = 2048
EXIT_FAULT = 2
SUFFIXES = (".yar", ".yara")


class RulesFault(Exception):
    """The rules cannot be used; the message names file and line."""


def limit(cpu_s: int, memory_mb: int) -> None:
    """Let the system end this process when it uses more CPU seconds or more MB of address space than this."""
    with suppress(ImportError):  # no such limits on this system: the caller's time-out is what is left
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = memory_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s if hard < 0 else min(cpu_s, hard), hard))


def rule_files(directory: Path) -> list[Path]:
    """Give all rule files under a payload directory, in a fixed order.

    Raises:
        RulesFault: if there is none, or one is not a file of the payload itself.
    """
    found = sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise RulesFault(f"{path.relative_to(directory)} is no plain file; put the rules themselves there")
    if not found:
        raise RulesFault("the payload holds no rules; put at least one *.yar or *.yara file into it")
    return found


def compile_rules(directory: Path) -> tuple[yara_x.Rules, list[str]]:
    """Compile all rules under a directory, each file in a namespace of its own: its path within the directory.

    Returns:
        The rules, and the compiler's warnings as `file:line: text`.

    Raises:
        RulesFault: naming the first file and line at fault.
    """
    # Includes would let a payload read the device's other files.
    compiler = yara_x.Compiler(includes_enabled=False)
    for path in rule_files(directory):
        name = path.relative_to(directory).as_posix()
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError as error:
            line = path.read_bytes().count(b"\n", 0, error.start) + 1
            raise RulesFault(f"{name}:{line}: is not UTF-8 text; save the file as UTF-8") from error
        compiler.new_namespace(name)
        try:
            compiler.add_source(text, origin=name)
        except yara_x.CompileError as error:
            first = compiler.errors()[0]
            raise RulesFault(f"{name}:{first['line']}: {first['title']}; correct the rule") from error
    warnings = [f"{w['labels'][0]['code_origin']}:{w['line']}: {w['title']}" for w in compiler.warnings()]
    rules = compiler.build()
    if not list(rules):
        raise RulesFault("the payload's files hold no rules; put at least one rule into them")
    return rules, warnings


def main(arguments: list[str]) -> int:
    """Compile the directory that is named; print {rules, warnings}, or the fault on standard error."""
    limit(COMPILE_CPU_S, COMPILE_MEMORY_MB)
    try:
        rules, warnings = compile_rules(Path(arguments[0]))
    except (RulesFault, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAULT
    sys.stdout.write(json.dumps({"rules": len(list(rules)), "warnings": warnings}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
