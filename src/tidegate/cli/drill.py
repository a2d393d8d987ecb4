"""`tidegate drill`: plans are tried, with a clock: on a real test fleet that is made for it, or at a table."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

from cyclopts import App

from tidegate.cli.book import anchor, me, now_ms, open_book
from tidegate.cli.demo_stage import Stage
from tidegate.cli.drill_fleet import Fleet
from tidegate.cli.drill_plays import PLAYS
from tidegate.cli.drill_proof import prove_in
from tidegate.cli.show import duration, moment, out, out_json, table
from tidegate.contingency.drill import INJECTIONS, Drill, calendar, check_injection, due_drills, flat, talk_through
from tidegate.contingency.drill_results import RUN, last_drilled, results
from tidegate.contingency.plan import Plan, read_plan, read_plans
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.trust.durable import make_directory, write_durably

app = App(name="drill", help="Try contingency plans, with a clock: on a real test fleet, or at a table.")
LEAST, MOST = 4, 100


def own_plans() -> Path:
    """Give the directory of Tidegate's own plans: how it recovers itself."""
    return Path(str(files("tidegate.contingency") / "own"))


def find_plan(name: str) -> Plan:
    """Find a plan: a file, or one of Tidegate's own by name. Raises NotFound and BadInput."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json"):
        return read_plan(path)
    own = own_plans() / f"{name}.yaml"
    if name.replace("-", "").isalpha() and own.is_file():
        return read_plan(own)
    known = ", ".join(sorted(one.stem for one in own_plans().glob("*.yaml")))
    raise NotFound(f"there is no plan {name!r}: name a YAML file, or one of Tidegate's own: {known}")


@app.command
def run(
    plan: str,
    /,
    *,
    inject: str = "",
    table_top: bool = False,
    participant: list[str] | None = None,
    devices: int = 6,
    keep: Path | None = None,
    home: Path | None = None,
    json: bool = False,
) -> int:
    """Drill a plan and enter the result into the ledger. Exit code 1 if it did not come back in time.

    A fleet of real agents with a control plane of its own is started on this machine, takes a good release, and the
    failure is injected. It is gone afterwards; your own fleet is not touched.

    Args:
        plan: A plan's YAML file, or one of Tidegate's own, as in controller-lost.
        inject: What fails; default: what the plan says. One of faulty-release, telemetry-outage, controller-lost,
            vendor-feed-gone, log-restored, keys-lost.
        table_top: Talk it through at a table, with a clock: answer each question `done`, or with what keeps it.
        participant: Who takes part. Can be given several times; default: your account.
        devices: How many agents, each a process of its own.
        keep: Leave the test fleet's files in this directory.
        home: The control plane's directory, whose book and ledger keep the result.
        json: End with one JSON object.
    """
    found = find_plan(plan)
    what = "table-top" if table_top else check_injection(inject or found.drill.inject or "faulty-release")
    if not LEAST <= devices <= MOST:
        raise BadInput(f"--devices must be {LEAST} to {MOST}, not {devices}")
    say = (lambda text: None) if json else out
    drill = Drill(found.name, what, "table-top" if table_top else "fleet", time.monotonic, found.rto_s, say)
    who = participant or [me()]
    if table_top:
        return _keep(_at_table(drill, found, who), home, json, {})
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        result, proof = _on_fleet(drill, what, who, devices, keep)
    finally:
        signal.signal(signal.SIGTERM, before)
    return _keep(result, home, json, proof)


def _on_fleet(
    drill: Drill, what: str, who: list[str], devices: int, keep: Path | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    with Stage(keep) as stage:
        fleet = Fleet(stage, drill)
        try:
            fleet.begin(devices)
            _play(fleet, drill, what)
            result = drill.result(who, devices)
            return result, prove_in(stage, fleet.office, result)
        finally:
            fleet.end()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _play(fleet: Fleet, drill: Drill, what: str) -> None:
    drill.say(f"Injecting: {INJECTIONS[what]}.")
    try:
        PLAYS[what](fleet)
    except Refused as error:
        drill.expect(False, str(error))


def _at_table(drill: Drill, plan: Plan, who: list[str]) -> dict[str, Any]:
    def ask(question: str) -> str:
        try:
            return input(f"{question} ")
        except EOFError:
            raise Refused("the drill was broken off: nothing is entered") from None

    talk_through(drill, plan, ask)
    return drill.result(who, 0)


def _keep(result: dict[str, Any], home: Path | None, json: bool, proof: dict[str, bytes]) -> int:
    """Write the result into the book, and so into the ledger; and the test fleet's own proof beside it."""
    book = open_book(home)
    result = {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **result}
    body = {**result, "result": flat(result)}
    entry = book.add(RUN, body, who=me(), why=f"drill of {result['drill']}", at_ms=now_ms())
    entered = anchor(home, entry)
    places: list[str] = []
    for name, data in proof.items():
        directory = book.directory / "drills" / f"{entry.seq:04d}-{result['drill']}"
        make_directory(directory)
        write_durably(directory / name, data)
        places.append(str(directory / name))
    if json:
        out_json(
            {**result, "book_line": entry.seq, "record_sha256": entry.digest, "in_ledger": entered, "proof": places}
        )
    else:
        _show(result)
        out(f"In the book, signed: line {entry.seq}{', and in the ledger' if entered else ''}.")
        if places:
            key = proof["ledger.key"].decode().strip()
            names = {Path(place).suffix: place for place in places}
            out("The test fleet's own ledger holds it too; check it from two files:")
            out(f"tidegate ledger verify --key {key} --entry {names['.json']} --proof {names['.tlog-proof']}")
    return 0 if result["passed"] else 1


def _show(result: dict[str, Any]) -> None:
    words = {"detect_s": "to detect", "halt_s": "to halt", "revert_s": "to revert", "restore_s": "to restore"}
    rto = result["rto_s"]
    rows = [
        (words[name], "-" if value is None else f"{value:.1f} s", _against(name, value, rto))
        for name, value in result["measures"].items()
    ]
    table(f"Drill of {result['drill']}: {result['inject']}", ("time", "measured", "against the RTO"), rows, empty="")
    for failure in result["failures"]:
        out(f"Not as it should be: {failure}.")
    verdict = "passed" if result["passed"] else "FAILED"
    out(f"{verdict}. Took part: {', '.join(result['participants'])}.")


def _against(name: str, value: float | None, rto: int | None) -> str:
    if name != "restore_s" or not rto:
        return ""
    if value is None:
        return f"not back; RTO {duration(rto)}"
    return f"{'within' if value <= rto else 'OVER'} {duration(rto)} ({value / rto:.0%})"


@app.command(name="list")
def listing(*, home: Path | None = None, json: bool = False) -> None:
    """List the drills on record, the newest last.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = results(open_book(home).read())
    if json:
        out_json({"drills": found})
        return
    rows = [
        (
            moment(one["at_ms"])[:16],
            one["drill"] if one["drill"] == one["inject"] else f"{one['drill']} ({one['inject']})",
            "passed" if one["passed"] else "FAILED",
            "-" if one["measures"]["restore_s"] is None else f"{one['measures']['restore_s']:.1f} s",
            ", ".join(one["participants"]),
        )
        for one in found
    ]
    columns = ("when, UTC", "plan", "", "restored in", "took part")
    table("Drills", columns, rows, empty="No drill is on record. Run one: tidegate drill run controller-lost")


@app.command
def due(
    directory: Path | None = None,
    /,
    *,
    ics: Path | None = None,
    today: str = "",
    home: Path | None = None,
    json: bool = False,
) -> int:
    """Say when which plan is to be drilled. Exit code 1 if one is overdue: fit for a scheduled job that reminds.

    Args:
        directory: Plans as YAML; default: Tidegate's own.
        ics: Write reminders as a calendar file, too.
        today: The day to look from, as in 2026-11-25; default: today.
        home: The control plane's directory, whose book knows when plans were drilled.
        json: Print JSON.
    """
    from tidegate.cli.contingency import day_of

    day = day_of(today)
    found = due_drills(read_plans(directory or own_plans()), last_drilled(open_book(home).read()), day)
    if ics is not None:
        write_durably(ics, calendar(found, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}").encode())
    late = [one for one in found if one.late_days(day) > 0 or one.last is None]
    if json:
        rows = [{"plan": o.plan, "last": str(o.last) if o.last else None, "due": str(o.due)} for o in found]
        out_json({"due": rows, "overdue": len(late)})
    else:
        shown = [
            (one.plan, one.service, one.last or "never", one.due, _when(one.late_days(day), one.last is None))
            for one in found
        ]
        table("Drills due", ("plan", "service", "last", "due", ""), shown, empty="")
    return 1 if late else 0


def _when(late: int, never: bool) -> str:
    if never:
        return "never drilled"
    return f"OVERDUE by {late} days" if late > 0 else f"in {-late} days" if late else "today"
