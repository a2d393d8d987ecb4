"""`python -m tests.crash.run [--all] [--seed N] [--part K/N] [--write]`: cuts by hand, and the table in docs/crash.md.

Without --all the deaths at every call; with it every error at every call as well, once and from then on.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

from tests.e2e.agent_device import quick_directory

from . import cuts, trace
from .stage import Stage

PAGE = Path(__file__).parent.parent.parent / "docs" / "crash.md"
BLOCK = re.compile(r"(<!-- counted: cuts -->\n).*?(<!-- end -->)", re.DOTALL)


def table(every: list[cuts.Cut]) -> str:
    """Count the cut points of each way: calls by name, and what is tried at them."""
    ways = list(dict.fromkeys(cut.way for cut in every))
    deaths = Counter((cut.way, _family(cut.fault.name)) for cut in cuts.kills(every))
    families = sorted({family for _, family in deaths}, key=lambda f: -sum(deaths[way, f] for way in ways))
    lines = [
        f"| way | {' | '.join(f'`{family}`' for family in families)} | deaths | errors |",
        f"| --- |{' ---: |' * (len(families) + 2)}",
    ]
    for way in ways:
        cells = [str(deaths[way, family]) for family in families]
        errors = sum(cut.way == way and cut.fault.what != "KILL" for cut in every)
        lines.append(f"| `{way}` | {' | '.join(cells)} | {sum(map(int, cells))} | {errors} |")
    total = [str(sum(deaths[way, family] for way in ways)) for family in families]
    deaths_in_all = len(cuts.kills(every))
    lines.append(f"| all | {' | '.join(total)} | {deaths_in_all} | {len(every) - deaths_in_all} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every error, too")
    parser.add_argument("--count", type=int, default=0, help="draw so many")
    parser.add_argument("--seed", type=int, default=1, help="with --count: another one draws others")
    parser.add_argument("--part", default="1/1", help="K/N: only the K-th of N parts, for several short runs")
    parser.add_argument("--write", action="store_true", help="only count, and write the table into docs/crash.md")
    options = parser.parse_args()
    if lacks := trace.missing():
        sys.stderr.write(f"{lacks}\n")
        return 2
    with quick_directory() as place:
        stage = Stage(place)
        try:
            every = cuts.every_cut(stage, place / "home")
            if options.write:
                PAGE.write_text(BLOCK.sub(lambda m: m[1] + table(every) + m[2], PAGE.read_text()))
                return 0
            chosen = every if options.all else cuts.kills(every)
            part, parts = map(int, options.part.split("/"))
            chosen = cuts.sample(chosen, options.count or len(chosen), options.seed)[part - 1 :: parts]
            tally = cuts.do_all(stage, chosen, place / "home")
        finally:
            stage.close()
    for (way, kind), count in sorted(tally.done.items()):
        print(f"{way:13} {kind:22} {count:5}")
    print("\n\n".join(tally.failures))
    print(f"{sum(tally.done.values())} cuts, {len(tally.failures)} failures, {tally.seconds:.0f} s")
    return 1 if tally.failures else 0


def _family(name: str) -> str:
    return {"unlinkat": "unlink", "openat": "open", "mkdirat": "mkdir", "renameat": "rename"}.get(name, name)


if __name__ == "__main__":
    sys.exit(main())
