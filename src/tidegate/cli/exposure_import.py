"""`tidegate exposure import` and `export`: estates from what people have, and back to what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from tidegate.cli.show import out, out_json
from tidegate.core.errors import BadInput
from tidegate.exposure.analyse import analyse
from tidegate.exposure.estate import Estate
from tidegate.exposure.imports.backstage import read_backstage
from tidegate.exposure.imports.cyclonedx import read_cyclonedx
from tidegate.exposure.imports.osquery import read_osquery
from tidegate.exposure.imports.register import concentration_csv, read_register
from tidegate.exposure.imports.result import Imported
from tidegate.exposure.imports.tables import read_tables
from tidegate.exposure.openpsa import read_openpsa
from tidegate.exposure.openpsa_out import estate_of_model, to_openpsa

Format = Literal["cyclonedx", "backstage", "osquery", "csv", "openpsa", "register"]
SHOWN = 20


def _one(read: Callable[[Path], Imported]) -> Callable[[Sequence[Path]], Imported]:
    def of(files: Sequence[Path]) -> Imported:
        if len(files) != 1:
            raise BadInput("this format is read from one file")
        return read(files[0])

    return of


def _openpsa(path: Path) -> Imported:
    model = read_openpsa(path)
    estate, remarks = estate_of_model(model)
    counts = {"components": len(estate["components"]), "services": len(estate["services"])}
    return Imported(estate, counts, remarks)


READERS: dict[str, Callable[[Sequence[Path]], Imported]] = {
    "cyclonedx": _one(read_cyclonedx),
    "backstage": read_backstage,
    "osquery": _one(read_osquery),
    "csv": read_tables,
    "openpsa": _one(_openpsa),
    "register": _one(read_register),
}


def import_files(kind: Format, files: tuple[Path, ...], into: Path, json: bool) -> None:
    """Read files, write the estate, and say what was understood and what was not."""
    if not files:
        raise BadInput("name at least one file to read")
    if into.exists():
        raise BadInput(f"{into} is there already; name another file with --into")
    found = READERS[kind](files)
    write(into, found.text())
    if json:
        out_json({"into": str(into), "understood": found.understood, "not_understood": found.not_understood})
        return
    counts = ", ".join(f"{count:,} {what}" for what, count in found.understood.items()) or "nothing"
    out(f"Understood: {counts}. Written: {into}.")
    for line in found.not_understood[:SHOWN]:
        out(f"Not understood: {line}.")
    if len(found.not_understood) > SHOWN:
        out(f"Not understood: {len(found.not_understood) - SHOWN:,} more (--json lists all).")
    if not found.estate["services"]:
        out("There are no services in it yet: add what needs what, then tidegate exposure analyse.")


def export_estate(kind: Literal["openpsa", "register"], estate: Estate, by: str, file: Path) -> None:
    """Write an estate's fault tree, or its concentration per function for the register."""
    if by not in ("vendor", "component", "causes"):
        raise BadInput(f"--by must be vendor, component or causes, not {by!r}")
    if kind == "openpsa":
        write(file, to_openpsa(estate, None if by == "causes" else by))
        return
    analysis: dict[str, Any] = analyse(estate, "component" if by == "component" else "vendor")
    write(file, concentration_csv(analysis))


def write(file: Path, text: str) -> None:
    """Write a text file. Raises BadInput where that cannot be."""
    try:
        file.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror or error}") from error
