"""osquery and Fleet exports: drivers, services, signatures and programs of hosts, joined to find vendor and privilege.

`drivers` alone is incomplete (osquery #6852), so kernel services count too, and signatures give vendors. One JSON file
holds a list of hosts, each {hostname, labels, drivers, services, authenticode, programs, software}, rows as in osquery.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput
from tidegate.exposure.imports.result import Imported, Json, part, read_json, rows_of, word

KERNEL_SERVICES = {"KERNEL_DRIVER", "FILE_SYSTEM_DRIVER", "BOOT_DRIVER"}
SYSTEM_USERS = {"localsystem", "nt authority\\system", "system", "root"}
KERNEL_SOURCES = {"kernel_extensions", "kernel_modules", "drivers"}
SYSTEM_SOURCES = {"services", "system_extensions", "launchd"}
KNOWN = {"hostname", "host", "labels", "drivers", "services", "authenticode", "programs", "software", "kernel_modules"}
_SUFFIX = re.compile(r",?\s+(inc|ltd|llc|gmbh|corp|corporation|ag|s\.a\.|sa|bv)\.?$", re.IGNORECASE)


def read_osquery(path: Path) -> Imported:
    """Read hosts. Raises BadInput where there is no list of them."""
    data = read_json(path)
    hosts = data.get("hosts") if isinstance(data, dict) else data
    if not isinstance(hosts, list):
        raise BadInput(f"{path}: no list of hosts")
    found = Imported()
    classes: Counter[tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = Counter()
    for place, host in enumerate(rows_of(hosts, "hosts", found)):
        name = word(host, "hostname", "host") or f"host {place + 1}"
        names = _host(host, name, found)
        labels = part(host, "labels")
        classes[tuple(sorted(names)), tuple(sorted((str(k), str(v)) for k, v in labels.items()))] += 1
        found.count("hosts")
        for key in sorted(host.keys() - KNOWN):
            found.miss(name, f"table {key!r} is not read")
    found.estate["devices"] = [
        {"count": count, "components": list(components), "labels": dict(labels)}
        for (components, labels), count in classes.items()
    ]
    found.miss("services", "no export says what needs what: write services and groups by hand, with select:")
    return found


def _host(host: Json, name: str, found: Imported) -> set[str]:
    signers = {
        _path(row): word(row, "subject_name") or word(row, "issuer_name")
        for row in rows_of(host.get("authenticode"), f"{name}: authenticode", found)
        if word(row, "result") in ("", "trusted")
    }
    carried: set[str] = set()

    def take(component: str, vendor: str, privilege: str) -> None:
        if not component:
            found.miss(name, "a row has no name")
            return
        found.component(component, _vendor(vendor), privilege)
        carried.add(component)

    for row in rows_of(host.get("drivers"), f"{name}: drivers", found):
        component = word(row, "service", "device_name", "description")
        take(component, signers.get(_path(row), "") or word(row, "provider", "manufacturer"), "kernel")
    for row in rows_of(host.get("kernel_modules"), f"{name}: kernel_modules", found):
        take(word(row, "name"), word(row, "vendor"), "kernel")
    for row in rows_of(host.get("services"), f"{name}: services", found):
        kernel = word(row, "service_type").upper() in KERNEL_SERVICES
        system = word(row, "user_account").lower() in SYSTEM_USERS
        vendor = signers.get(_path(row), "")
        take(word(row, "name", "display_name"), vendor, "kernel" if kernel else "system" if system else "user")
    for row in rows_of(host.get("programs"), f"{name}: programs", found):
        take(word(row, "name"), word(row, "publisher"), "user")
    for row in rows_of(host.get("software"), f"{name}: software", found):
        source = word(row, "source")
        privilege = "kernel" if source in KERNEL_SOURCES else "system" if source in SYSTEM_SOURCES else "user"
        if not source:
            found.miss(name, f"software {word(row, 'name')!r} does not say where it comes from")
        take(word(row, "name"), word(row, "vendor"), privilege if source else "")
    found.count("components on hosts", len(carried))
    return carried


def _path(row: Json) -> str:
    value: Any = word(row, "image", "path", "binary")
    return value.strip('"').lower().replace("\\??\\", "").replace("\\systemroot\\", "c:\\windows\\")


def _vendor(text: str) -> str:
    """Call one maker by one name, however its certificates spell its legal form."""
    return _SUFFIX.sub("", text.strip()).strip()
