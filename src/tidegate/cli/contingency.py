"""`tidegate contingency`: plans checked, and packed so that they can be read when everything is down."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tidegate.cli.book import open_book
from tidegate.cli.show import out, out_json, table
from tidegate.contingency.drill_results import last_drilled
from tidegate.contingency.lint import ERROR, Subject
from tidegate.contingency.lint import lint as find_all
from tidegate.contingency.moments import moment_of, moment_text
from tidegate.contingency.pack import pack as make_bundle
from tidegate.contingency.pack import verify as check_bundle
from tidegate.contingency.plan import plan_schema, read_plans
from tidegate.core.errors import BadInput
from tidegate.exposure.reading import read_estate
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.note import parse_key

app = App(name="contingency", help="Check contingency plans, and pack them for when everything is down.")


@app.command
def lint(
    directory: Path, /, *, estate: Path | None = None, today: str = "", home: Path | None = None, json: bool = False
) -> int:
    """Say what is wrong with a directory of plans. Exit code 1 if anything is.

    Args:
        directory: Plans as YAML, one a file; policy.yaml holds what is for all.
        estate: The estate, as for tidegate exposure: finds single points of failure, and what falls with what.
        today: The day to look at drills from, as in 2026-11-25; default: today.
        home: The control plane's directory, whose book knows when plans were drilled.
        json: Print JSON.
    """
    plans = read_plans(directory)
    known = read_estate(estate) if estate else None
    day = day_of(today)
    found = find_all(Subject(plans, known, last_drilled(open_book(home).read()), day))
    errors = sum(one.severity == ERROR for one in found)
    if json:
        out_json({"plans": len(plans.plans), "errors": errors, "findings": [one.to_dict() for one in found]})
    else:
        rows = [
            (one.severity, one.rule, one.plan or one.service, f"{one.file}:{one.line}", one.message) for one in found
        ]
        table("Findings", ("", "rule", "plan", "where", "what"), rows, empty="")
        out(f"{len(plans.plans)} plans, {errors} errors, {len(found) - errors} warnings.")
    return 1 if errors else 0


def day_of(text: str) -> date:
    """Read a day, or give today. Raises BadInput."""
    if not text:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--today must be a date as in 2026-11-25, not {text!r}") from None


@app.command
def schema() -> None:
    """Print the JSON Schema of a plan; editors complete files with it."""
    print(plan_schema(), end="")


@app.command
def pack(
    directory: Path,
    /,
    *,
    out_file: Annotated[Path, Parameter(name="--out")] = Path("plans.zip"),
    estate: Path | None = None,
    at: str = "",
    home: Path | None = None,
) -> None:
    """Make one signed bundle: a page that prints, with codes to scan for the steps of each device, and the sources.

    Args:
        directory: Plans as YAML.
        out_file: Where the bundle goes.
        estate: An estate to put in too.
        at: The moment it is made, in UTC; default: now.
        home: The control plane's directory, whose book signs.
    """
    plans = read_plans(directory)
    signer = open_book(home).signer()
    made = moment_text(moment_of("--at", at) if at else datetime.now(UTC))
    if not out_file.parent.is_dir():
        raise BadInput(f"{out_file.parent} is no directory; make it first")
    write_durably(out_file, make_bundle(plans, signer, made, [estate] if estate else None))
    out(f"Written: {out_file}, {len(plans.plans)} plans. Open plans.html in it; print it; keep it off the network.")
    out(f"Check: tidegate contingency verify {out_file} --key {signer.key.text()}")


@app.command
def verify(bundle: Path, /, *, key: str = "", home: Path | None = None) -> None:
    """Check a bundle. Exit code 1 if its signature does not hold or a file was changed.

    Args:
        bundle: The file.
        key: The key that must have signed it; default: that of the book on this machine.
        home: The control plane's directory.
    """
    known = parse_key(key) if key else open_book(home).known_key()
    manifest = check_bundle(read_bytes(bundle, "the bundle"), known)
    out(f"It holds: {manifest['plans']} plans, made {manifest['made']}, signed by {known.text()}.")
