"""The EU Register of Information (Regulation 2024/2956) as its CSV package: functions, contracts and providers.

Read: B_02.02 (which function rests on which provider), B_05.01 (providers' names), B_06.01 (functions). A function
needs all its providers. Written back: concentration per function, by the register's own codes.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput
from tidegate.exposure.imports.result import MOST_BYTES, Imported, Json, read_bytes

_TABLE = re.compile(r"b_(\d\d\.\d\d)(\.\d\d)?\.csv", re.IGNORECASE)
READ = {"02.02", "05.01", "06.01"}
MOST_FILES = 200


def read_register(path: Path) -> Imported:
    """Read a package: a .zip, or its directory. Raises BadInput where there is none of the tables that are read."""
    found, tables = Imported(), dict[str, list[dict[str, str]]]()
    for name, data in _files(path):
        table = _TABLE.search(name)
        if table is None:
            if name.endswith(".csv"):
                found.miss(name, "is no table of the register")
        elif table[1] in READ:
            tables[table[1]] = _rows(name, data)
        else:
            found.miss(name, "is not read: it says nothing of which function rests on whom")
    if "02.02" not in tables:
        raise BadInput(
            f"{path}: no table B_02.02 (reports/b_02.02.csv): it says which function rests on which provider"
        )
    names = {row.get("c0010", ""): row.get("c0050", "") or row.get("c0060", "") for row in tables.get("05.01", [])}
    functions = {row.get("c0010", ""): row for row in tables.get("06.01", [])}
    needs: dict[str, dict[str, None]] = {}
    for place, row in enumerate(tables["02.02"], 2):
        provider, function = row.get("c0030", ""), row.get("c0050", "")
        if not provider or not function:
            found.miss(f"b_02.02 line {place}", "has no provider (c0030) or no function (c0050)")
            continue
        if provider not in names:
            found.miss(f"b_02.02 line {place}", f"provider {provider} is not in B_05.01; it keeps its code as name")
        needs.setdefault(function, {})[names.get(provider) or provider] = None
        found.count("arrangements")
    found.estate["vendors"] = {name: {} for name in dict.fromkeys(v for on in needs.values() for v in on)}
    for function, on in needs.items():
        found.estate["services"][function] = _service(function, list(on), functions, found)
        found.count("functions")
    for function in functions.keys() - needs.keys():
        found.miss(f"function {function}", "rests on no provider in B_02.02; it is left out")
    return found


def _service(function: str, on: list[str], functions: dict[str, dict[str, str]], found: Imported) -> Json:
    row = functions.get(function)
    if row is None:
        found.miss(f"function {function}", "is not in B_06.01")
    service: Json = {"needs": {"all": [f"vendor:{name}" for name in on]}}
    if row and row.get("c0030"):
        service["description"] = row["c0030"]
    return service


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Give the package's files; a zip is read within bounds, whatever it says of itself."""
    if path.is_dir():
        for file in sorted(path.rglob("*.csv")):
            yield file.name, read_bytes(file)
        return
    try:
        with zipfile.ZipFile(path) as package:
            inside = [one for one in package.infolist() if not one.is_dir()]
            if len(inside) > MOST_FILES or sum(one.file_size for one in inside) > MOST_BYTES:
                raise BadInput(f"{path}: more than {MOST_FILES} files or {MOST_BYTES:,} bytes")
            for one in inside:
                with package.open(one) as file:
                    yield one.filename.rpartition("/")[2], file.read(MOST_BYTES)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path}: no zip package: {error}") from error


def _rows(name: str, data: bytes) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        return [{str(k).strip().lower(): (v or "").strip() for k, v in row.items() if k} for row in reader]
    except (UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise BadInput(f"{name}: no CSV in UTF-8: {error}") from error


def concentration_csv(analysis: dict[str, Any]) -> str:
    """Write concentration per function for the register: one row for each function and provider that can take it.

    Columns: function (B_06.01.0010), provider, alone (whether it takes the function alone), smallest_cut (how many must
    fail together), alternatives (cut members beside it), importance (structural).
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(["b_06.01.0010", "provider", "alone", "smallest_cut", "fails_together_with", "importance"])
    for function, row in sorted(analysis["services"].items()):
        for provider, importance in sorted(row["importance"].items()):
            cuts = [cut for cut in row["cuts"] if provider in cut]
            least = min((len(cut) for cut in cuts), default=0)
            others = sorted({name for cut in cuts if len(cut) == least for name in cut} - {provider})
            alone = "true" if provider in row["single_points"] else "false"
            weight = importance.get("structural")
            writer.writerow(
                [_safe(function), _safe(provider), alone, least or "", "; ".join(_safe(one) for one in others),
                 "" if weight is None else f"{weight:.6g}"]
            )  # fmt: skip
    return file.getvalue()


def _safe(text: str) -> str:
    """Keep a spreadsheet from taking a name for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
