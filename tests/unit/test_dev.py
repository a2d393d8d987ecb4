"""dev.py: what it makes of pip's configuration, when it installs again, how it refuses; which tests are a room's."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_under_test", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dev = load(ROOT / "dev.py")
conftest = load(ROOT / "tests" / "conftest.py")


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "dev.py"), *args], capture_output=True, text=True, timeout=60)


def test_dev_py_needs_the_standard_library_alone() -> None:
    nodes = list(ast.walk(ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"))))
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in named} <= sys.stdlib_module_names


@pytest.mark.parametrize("args", [[], ["frobnicate"], ["setup", "now"], ["lint", "--fix"]])
def test_a_wrong_call_is_one_line_and_exit_code_2(args: list[str]) -> None:
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"dev\.py: [^\n]+\n", done.stderr)


def test_an_unknown_room_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--room", "attic", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 4
    assert "no room attic; there are agent," in done.stderr


def test_pip_configuration_is_read_with_pips_own_precedence() -> None:
    listing = (
        ":env:.index-url='https://env.example/simple'\nglobal.index-url='https://a.example'\nglobal.cert='/c.pem'\n"
    )
    listing += "install.find-links='/one\\n/two'\nglobal.find-links='/none'\nfreeze.timeout='10'\n"
    assert dev.parse_pip_config(listing) == {
        "index-url": "https://env.example/simple", "cert": "/c.pem", "find-links": "/one\n/two",
    }  # fmt: skip


def test_uv_asks_where_pip_would_unless_told_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    config = {
        "index-url": "https://a.example",
        "cert": "/c.pem",
        "extra-index-url": "https://b.example\nhttps://c.example",
    }
    env = dev.uv_environment(config)
    assert (env["UV_INDEX_URL"], env["SSL_CERT_FILE"]) == ("https://a.example", "/c.pem")
    assert env["UV_EXTRA_INDEX_URL"] == "https://b.example https://c.example"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example")
    assert "UV_INDEX_URL" not in dev.uv_environment(config)


def test_a_find_links_folder_that_is_missing_is_passed_over(tmp_path: Path) -> None:
    config = {"find-links": f"{tmp_path} {tmp_path}/missing https://a.example/links", "no-index": "true"}
    links = ["--find-links", str(tmp_path), "--find-links", "https://a.example/links"]
    assert dev.uv_sources(config) == [*links, "--no-index"]


def test_what_makes_it_install_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock, project = tmp_path / "requirements.lock", tmp_path / "pyproject.toml"
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "LOCK", lock)
    lock.write_text("a==1\n")
    project.write_text('[project]\nname = "x"\n[tool.ruff]\nline-length = 100\n')
    first = dev.fingerprint()
    project.write_text('[project]\nname = "x"\n[tool.ruff]\nline-length = 120\n')
    assert dev.fingerprint() == first
    project.write_text('[project]\nname = "x"\ndependencies = ["b"]\n')
    assert dev.fingerprint()["content"] != first["content"]
    monkeypatch.setattr(dev, "BIN", tmp_path / "gone")
    assert dev.fingerprint()["venv"] != first["venv"]


def test_a_torn_stamp_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dev, "STAMP", tmp_path / "stamp")
    assert dev._stamped() == {}
    (tmp_path / "stamp").write_text('{"venv": "3.1')
    assert dev._stamped() == {}


def test_the_lock_has_hashes_for_all_and_names_no_host() -> None:
    locked = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^([a-z0-9-]+)==[^\\]+\\\n {4}--hash=sha256:[0-9a-f]{64}", locked, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[^ #\n]", locked, re.MULTILINE))
    assert "://" not in locked and "--index-url" not in locked
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*pyproject["project"]["dependencies"], *pyproject["dependency-groups"]["dev"]]
    assert {re.split(r"[<>=;\[ ]", line)[0] for line in wanted} <= set(entries)


@pytest.mark.parametrize(
    ("path", "rooms"),
    [
        ("tests/unit/test_core_words.py", {"core"}),
        ("tests/unit/test_assign.py", {"core"}),
        ("tests/unit/test_assign_vectors.py", {"core"}),
        ("tests/unit/test_assignment.py", set()),
        ("tests/sim/test_core_window.py", {"core", "sim"}),
        ("tests/e2e/test_agent.py", {"agent"}),
        ("tests/e2e/test_promise.py", set()),
    ],
)
def test_which_rooms_a_test_file_belongs_to(path: str, rooms: set[str]) -> None:
    modules = {"core": {"assign", "model"}, "agent": {"loop"}, "sim": set[str]()}
    assert conftest.rooms_of(Path(path), modules) == rooms
