"""Runs benchmarks: `python -m bench [NAME] [--json] [--full] [--write]`; each file here with `rows` is one."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from dataclasses import asdict
from typing import Any

import bench
from bench.rows import Row


def main() -> int:
    names = [module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_")]
    modules: dict[str, Any] = {name: importlib.import_module(f"bench.{name}") for name in names}
    known = {name: module for name, module in modules.items() if hasattr(module, "rows")}
    parser = argparse.ArgumentParser(prog="dev.py bench", description="Ratios to something measured in the same run.")
    parser.add_argument("name", nargs="?", choices=sorted(known), help="default: all")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--full", action="store_true", help="with as much power as `dev.py test --all`")
    parser.add_argument("--write", action="store_true", help="write the documentation's tables and pictures")
    said = parser.parse_args()
    found: list[Row] = []
    for name in [said.name] if said.name else sorted(known):
        found += known[name].rows(full=said.full, write=said.write)
    if said.json:
        json.dump([asdict(row) for row in found], sys.stdout, indent=2)
        print()
        return 0
    for row in found:
        print(f"{row.name:<64} {row.value:>12.5g} {row.unit:<16} {row.ratio:>8.3g} x {row.reference}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
