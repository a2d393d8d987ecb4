"""The docs are true: generated blocks equal the tables, paths that are named exist, links lead somewhere.

`python -m tests.unit.test_docs` writes the generated blocks anew.
"""

from __future__ import annotations

import ast
import configparser
import inspect
import itertools
import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from tidegate.core import device, phases
from tidegate.log import events

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "tidegate"
PAGES = sorted(
    [*DOCS.rglob("*.md"), *(page for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] if page.exists())]
)
BLOCK = re.compile(r"<!-- generated: (?P<name>[a-z-]+) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+/?|[\w-]+/")
# Paths that stand in the docs but are not in this repository: on devices and in the published files.
ELSEWHERE = re.compile(
    r"(metadata|targets|payloads|releases|plans|promotions|emergency|slots|condemned|fetch|outbox|components|application|v1|usr|\.cache)/"
    r"|tidegate/"
)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def low(*members: Enum) -> str:
    return ", ".join(f"`{member.name.lower()}`" for member in members)


def happenings() -> str:
    """The texts below the members of `Happening`, which the language does not keep."""
    lines = inspect.getsource(phases.Happening).splitlines()
    said = {line.split("=")[0].strip(): after for line, after in itertools.pairwise(lines) if " = " in line}
    rows = [(low(member), said[member.name].strip().strip('"')) for member in phases.Happening]
    return table(("happening", "meaning"), rows)


def event_rows() -> list[tuple[str, str]]:
    kinds: tuple[Any, ...] = events.Event.__args__
    return [(f"`{kind.__struct_config__.tag}`", (inspect.getdoc(kind) or "").splitlines()[0]) for kind in kinds]


def floors() -> str:
    found = configparser.ConfigParser()
    found.read(ROOT / ".importlinter")
    layers = found["importlinter:contract:floors"]["layers"].split("\n")
    return (
        "```text\n" + "".join(f"{layer.strip().replace(' | ', '   ')}\n" for layer in layers if layer.strip()) + "```\n"
    )


def blocks() -> dict[str, str]:
    """Give every generated block by its name, made from the code."""
    steps = device.STEPS.items()
    return {
        "device-diagram": f"```mermaid\n{device.diagram()}```\n",
        "device-states": table(
            ("state", "the device", "after a power cut"),
            [(low(state), state.value, low(*device.RESUME[state])) for state in device.State],
        ),
        "device-steps": table(
            ("state", "event", "next state", "effects"),
            [(low(state), low(event), low(after.state), low(*after.effects)) for (state, event), after in steps],
        ),
        "device-words": table(("event", "what has happened"), [(low(event), event.value) for event in device.Event])
        + "\n"
        + table(("effect", "what the device does"), [(low(effect), effect.value) for effect in device.Effect]),
        "rollout-diagram": f"```mermaid\n{phases.diagram()}```\n",
        "rollout-steps": table(
            ("phase", "happening", "next phase", "effects"),
            [
                (low(phase), low(happening), low(after.phase), low(*after.effects))
                for (phase, happening), after in phases.STEPS.items()
            ],
        ),
        "rollout-happenings": happenings(),
        "events": table(("event", "what it records"), event_rows()),
        "floors": floors(),
    }


def filled(text: str) -> str:
    made = blocks()
    return BLOCK.sub(lambda m: f"<!-- generated: {m['name']} -->\n{made[m['name']]}<!-- end -->", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def paths_named(text: str) -> set[str]:
    """Paths in code marks and in pictures; not those with a placeholder, nor those of other machines."""
    fences = " ".join(FENCE.findall(text))
    words = " ".join(CODE.findall(FENCE.sub("", text)))
    words = re.sub(r"\S*[<{*]\S*", " ", f"{words} {fences.replace('<br/>', ' ')}")
    return {path for path in PATH.findall(words) if "." in path and not ELSEWHERE.match(path)}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_generated_blocks_are_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == filled(text), "run: python -m tests.unit.test_docs"


def test_every_block_stands_somewhere() -> None:
    found = {m["name"] for page in PAGES for m in BLOCK.finditer(page.read_text(encoding="utf-8"))}
    assert found == set(blocks())


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=page_id)
def test_paths_that_are_named_exist(page: Path) -> None:
    named = paths_named(page.read_text(encoding="utf-8"))
    bases = (ROOT, SOURCE, DOCS, ROOT / "tests" / "unit" / "trust")
    assert {path for path in named if not any((base / path).exists() for base in bases)} == set()


def test_the_picture_names_many_paths() -> None:
    named = paths_named((DOCS / "architecture.md").read_text(encoding="utf-8"))
    assert {"core/admission.py", "intake/announce.py", "agent/outbox.py", "cli/release_files.py"} <= named
    assert len(named) > 50


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    dead: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        place = (page.parent / target) if target else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            dead.append(link)
    assert dead == []


def test_the_threat_model_names_tests_that_there_are() -> None:
    text = (DOCS / "threat-model.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    defined = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert named - defined == set()
    assert len(named) > 10


def test_every_file_says_in_its_first_line_what_it_is_for() -> None:
    silent: list[str] = []
    for file in sorted(SOURCE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if not ast.get_docstring(ast.parse(text)) or not text.startswith('"""'):
            silent.append(str(file.relative_to(SOURCE)))
    assert silent == []


if __name__ == "__main__":
    for path in DOCS.rglob("*.md"):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
