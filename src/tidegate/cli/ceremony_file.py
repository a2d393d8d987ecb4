"""The file in which a change of keys goes from one holder to the next."""

from __future__ import annotations

from pathlib import Path

from tidegate.cli.show import out
from tidegate.core.errors import Refused
from tidegate.trust.ceremony import Bundle
from tidegate.trust.ceremony_words import describe
from tidegate.trust.durable import write_durably


def write_bundle(output: Path, bundle: Bundle, holders: str = "holder") -> None:
    """Write a change that is to be signed, and say what it is and who is next. Raises Refused if the file is there."""
    if output.exists():
        raise Refused(f"{output} exists already; another ceremony may lie in it")
    write_durably(output, bundle.text())
    for line in describe(bundle):
        out(line)
    out(f"Next, on each {holders}'s machine: tidegate keys sign {output} --key KEY.pem")
