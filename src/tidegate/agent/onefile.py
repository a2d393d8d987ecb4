"""The agent's own command line, for devices that have the agent alone: enrol, run, launch, status, lay out."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

USAGE = """usage: tidegate-agent.pyz COMMAND ...

    enrol --home DIR --server ADDRESS --token-file FILE [--ca FILE] [--label NAME=VALUE]...
          [--component NAME]...
    run --home DIR [--once] [-v]      run the agent (the default, if options come first)
    launch --home DIR                 run it under its launcher, which no release replaces
    status --home DIR                 say what it does, and why it is not updating
    lay-out DIR                       write this file, the launcher, the guards and the systemd units below DIR
"""


def main(words: list[str]) -> int:
    """Give the exit code: 0 done, 1 the answer is no, 2 usage or bad input."""
    command, rest = (words[0], words[1:]) if words and not words[0].startswith("-") else ("run", words)
    if not words or command == "help" or words[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if command == "run":
        from tidegate.agent.__main__ import main as run

        return run(rest)
    if command == "launch":
        from tidegate.agent.launch import main as launch

        return launch(rest)
    known = {"enrol": _enrol, "status": _status, "lay-out": _lay_out}
    if command not in known:
        sys.stderr.write(f"tidegate-agent: no command {command!r}\n{USAGE}")
        return 2
    from tidegate.core.errors import BadInput, NotFound, TidegateError
    from tidegate.core.printable import one_line

    try:
        return known[command](rest)
    except (TidegateError, OSError) as error:
        sys.stderr.write(f"tidegate-agent: {one_line(str(error))}\n")
        return 2 if isinstance(error, BadInput | NotFound | OSError) else 1


def _enrol(words: list[str]) -> int:
    import argparse
    import platform

    from tidegate.agent.enrol import check_server, enrol
    from tidegate.core.errors import BadInput

    parser = argparse.ArgumentParser(prog="tidegate-agent enrol", allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True, help="the agent's directory; made if missing")
    parser.add_argument("--server", required=True, help="where devices reach the control plane")
    parser.add_argument("--token-file", type=Path, required=True, help="a file with the token")
    parser.add_argument("--ca", type=Path, help="certificates that the server's must come from")
    parser.add_argument("--without-tls", action="store_true", help="talk over plain http:// beyond this machine")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--component", action="append", default=[], help="what it takes updates for; default: all")
    said = parser.parse_args(words)
    labels = dict(label.split("=", 1) if "=" in label else (label, "") for label in said.label)
    if "" in labels.values():
        raise BadInput("--label must be NAME=VALUE")
    facts = {"os": platform.system(), "release": platform.release(), "machine": platform.machine()}
    token, ca = said.token_file.read_text().strip(), str(said.ca.absolute()) if said.ca else ""
    check_server(said.server, said.without_tls)
    identity = enrol(said.home, said.server, token, labels, facts, said.component, ca=ca)
    sys.stdout.write(f"Enrolled as device {identity.device_id} (number {identity.index}) in {said.home}.\n")
    return 0


def _status(words: list[str]) -> int:
    from tidegate.core.errors import NotFound
    from tidegate.core.printable import one_line

    home = Path(words[1]) if len(words) == 2 and words[0] == "--home" else None
    if home is None:
        sys.stderr.write(USAGE)
        return 2
    try:
        found = json.loads((home / "status.json").read_text())
    except (OSError, ValueError) as error:
        raise NotFound(f"{home} has no agent that has run") from error
    for row in found["components"]:
        said = f"{row['component']}: {row['state'].lower()}, runs {row['installed']}: {row['sentence']}"
        sys.stdout.write(one_line(said) + "\n")
    if not found["components"]:
        sys.stdout.write(one_line(str(found["sentence"])) + "\n")
    return 0


def _lay_out(words: list[str]) -> int:
    """Write what a package or an image puts below /usr/lib/tidegate; calling it again brings it up to date."""
    from tidegate.trust.durable import make_directory, write_durably

    if len(words) != 1:
        sys.stderr.write(USAGE)
        return 2
    place, here = Path(words[0]), Path(__file__).resolve().parent
    files = {f"tidegate/agent/{name}": (here / name).read_bytes() for name in ("launch.py", "guard.py", "__init__.py")}
    files["tidegate/__init__.py"] = (here.parent / "__init__.py").read_bytes()
    files["initramfs/guard.sh"] = (here / "initramfs" / "guard.sh").read_bytes()
    units = here.parents[1] / "systemd"
    files |= {f"systemd/{unit.name}": unit.read_bytes() for unit in units.glob("*.service")}
    for name, data in files.items():
        make_directory((place / name).parent)
        write_durably(place / name, data)
    archive = Path(sys.argv[0])
    if archive.suffix == ".pyz" and archive.resolve() != (place / archive.name).resolve():
        partial = place / ".tidegate-agent.pyz.new"
        shutil.copyfile(archive, partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(place / "tidegate-agent.pyz")
    sys.stdout.write(f"Laid out below {place}; the units are in {place / 'systemd'}.\n")
    return 0
