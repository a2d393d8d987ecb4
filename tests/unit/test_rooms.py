"""The house's rules that import-linter cannot see: what a module loads when it runs, and who may name what."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "tidegate"
DEVICE_MAY = {"tuf", "cryptography", "yara_x", "tidegate"}
HEAVY = {"numpy", "scipy", "msgspec", "starlette", "uvicorn", "httpx", "structlog", "rich", "cyclopts", "jinja2"}


def path_of(module: str) -> Path:
    """The module's file; skips the test while it is not written."""
    path = SOURCE.parent.joinpath(*module.split(".")).with_suffix(".py")
    if not path.exists():
        pytest.skip(f"{module} is not written yet")
    return path


def loaded_by(module: str) -> set[str]:
    """The top-level packages in memory once a fresh interpreter has imported a module."""
    code = f"import sys, json, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`, which never run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from run_time_nodes(child)


def imported_by(path: Path) -> set[str]:
    """The top-level packages that a file names in its imports, wherever these stand; our own by relative ones too."""
    found: set[str] = set()
    for node in run_time_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("tidegate" if node.level else (node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("module", ["tidegate.core.assign", "tidegate.core.device", "tidegate.core.model"])
def test_what_the_agent_takes_from_core_loads_the_standard_library_alone(module: str) -> None:
    path_of(module)
    assert loaded_by(module) & (HEAVY | DEVICE_MAY) == {"tidegate"}


@pytest.mark.parametrize("module", ["tidegate.agent.loop", "tidegate.agent.guard"])
def test_the_device_loads_nothing_heavy(module: str) -> None:
    path_of(module)
    assert not loaded_by(module) & HEAVY


def test_the_guard_names_the_standard_library_alone() -> None:
    assert imported_by(path_of("tidegate.agent.guard")) <= sys.stdlib_module_names


@pytest.mark.parametrize("room", ["agent", "drivers"])
def test_the_device_names_only_what_it_may(room: str) -> None:
    wrong = {
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in (SOURCE / room).rglob("*.py")
        for name in imported_by(path) - sys.stdlib_module_names - DEVICE_MAY
    }
    assert not wrong


def test_entering_a_room_imports_nothing() -> None:
    # Importing one module runs the __init__ of every package above it. cli is no one's library.
    rooms = [path for path in SOURCE.rglob("__init__.py") if path.parent.name != "cli"]
    assert {path: names for path in rooms if (names := imported_by(path) - {"__future__"})} == {}
    assert loaded_by("tidegate") & HEAVY == set()


def test_an_import_for_the_type_checker_alone_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text(
        "import os.path\nif TYPE_CHECKING:\n    import numpy\ndef f():\n    from . import x\n    import tuf\n"
    )
    assert imported_by(file) == {"os", "tidegate", "tuf"}
