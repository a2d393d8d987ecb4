"""Reports on an incident: made from its record, checked, noted as handed in. Nothing is sent."""

from __future__ import annotations

import json as jsonlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tidegate import __version__
from tidegate.cli.book import write
from tidegate.cli.incidents import all_incidents, clocks_of
from tidegate.cli.show import out
from tidegate.contingency import authorities, csaf, dora
from tidegate.contingency.incident import SENT, Incident, find
from tidegate.contingency.moments import moment_of, moment_text
from tidegate.contingency.summary import summary
from tidegate.core.errors import BadInput, Refused
from tidegate.trust.durable import read_json, write_durably

FORMS = (
    *(f"dora-{stage}" for stage in dora.STAGES),
    *(f"{regime}-{stage}" for regime, stages in authorities.STAGES.items() for stage in stages),
    "csaf",
    "summary",
)


def export(
    incident: str,
    form: str,
    /,
    *,
    out_file: Annotated[Path | None, Parameter(name="--out")] = None,
    home: Path | None = None,
) -> None:
    """Make a report from the record. It is written, never sent.

    Exit code 1, naming each, where the law demands something that the record does not have.

    Args:
        incident: Its name, or last.
        form: dora-initial, dora-intermediate, dora-final, nis2-early-warning, nis2-notification, nis2-final,
            cra-early-warning, cra-notification, cra-final, csaf or summary.
        out_file: Where it goes; default: standard output.
        home: The control plane's directory.
    """
    if form not in FORMS:
        raise BadInput(f"there is no form {form!r}; there are {', '.join(FORMS)}")
    text = _made(find(all_incidents(home), incident), form)
    if out_file is None:
        print(text, end="")
        return
    if not out_file.parent.is_dir():
        raise BadInput(f"{out_file.parent} is no directory; make it first")
    write_durably(out_file, text.encode())
    out(f"Written: {out_file}. Send it yourself, then: tidegate incident submitted {incident} {form}")


def _made(found: Incident, form: str) -> str:
    now = datetime.now(UTC)
    regime, _, stage = form.partition("-")
    if form == "summary":
        return summary(found, clocks_of(found), now)
    if regime == "csaf":
        value = csaf.make(found, now, __version__)
    elif regime == "dora":
        value = dora.report(stage, found.dora_values(), found.answers())
        value |= {"incident": found.name, "made": moment_text(now)}
    else:
        value = authorities.make(regime, stage, found, moment_text(now))
    return jsonlib.dumps(value, indent=2, ensure_ascii=False) + "\n"


def check(file: Path, /, *, stage: str = "") -> None:
    """Check a DORA report against the matrix of mandatory fields, or a CSAF document against its rules.

    Exit code 1, naming each, where a mandatory field is missing or a value is not what its field takes.

    Args:
        file: A JSON file.
        stage: initial, intermediate or final; default: what the report says.
    """
    value = read_json(file, "the report")
    if isinstance(value, dict) and isinstance(value.get("document"), dict):
        wrong = csaf.check(value)
        if wrong:
            raise Refused(f"{file}: {'; '.join(wrong)}")
        out(f"{file} is a valid document of category {value['document']['category']}.")
        return
    found = dora.check_report(value, stage)
    trouble = dora.trouble(found)
    if trouble:
        raise Refused(f"{file}: {'; '.join(trouble)}")
    out(f"{file}: nothing that is mandatory is missing.")
    for name in found.open_conditions:
        out(f"Taken not to apply, as nobody said so: {dora.CONDITIONS[name][0]}.")


def submitted(incident: str, form: str, /, *, at: str = "", who: str = "", home: Path | None = None) -> None:
    """Record that a report was handed in; this starts the next clock.

    Args:
        incident: Its name, or last.
        form: Which report, as in dora-initial.
        at: When, in UTC; default: now.
        who: Who handed it in; default: your account.
        home: The control plane's directory.
    """
    if form not in FORMS[:-2]:
        raise BadInput(f"there is no report {form!r}; there are {', '.join(FORMS[:-2])}")
    found = find(all_incidents(home), incident)
    when = moment_of("--at", at) if at else datetime.now(UTC)
    if when > datetime.now(UTC):
        raise BadInput("--at lies in the future")
    write(home, SENT, {"incident": found.name, "report": form, "at": moment_text(when)}, who=who)
    out(
        f"{found.name}: {form} handed in {moment_text(when)}. See tidegate incident show {found.name} for what is next."
    )
