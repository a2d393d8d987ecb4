"""Notices: every figure bound to the record, nothing out without a name under it, pages that stand by themselves."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tidegate.cli.main import run
from tidegate.contingency.book import Book
from tidegate.contingency.incident import OPENED, SET, fold
from tidegate.contingency.notice import changed_since, draft, fold_notices, languages
from tidegate.core.errors import BadInput, Refused
from tidegate.trust.note import parse_note

AT = 1_784_433_600_000
FACTS: dict[str, Any] = {
    "title": "Check-in desks are down",
    "description": "A security update stopped the check-in desks.",
    "services": ["check-in"],
    "devices": 1200,
    "next_update": "2026-07-19T08:00:00Z",
    "publisher": "Example Air",
    "namespace": "https://status.example.org",
    "contact": "press@example.org",
}


def book_with(tmp_path: Path, **more: Any) -> Book:
    book = Book(tmp_path / "book")
    body = {"incident": "INC-1", "values": FACTS | more}
    book.add(OPENED, body, who="Ines Roy", why="", at_ms=AT)
    return book


def test_each_figure_is_bound_to_its_line(tmp_path: Path) -> None:
    book = book_with(tmp_path)
    book.add(SET, {"incident": "INC-1", "values": {"devices": 1250}}, who="Luc Bern", why="", at_ms=AT + 1)
    incident = fold(book.read())["INC-1"]
    text, figures = draft(incident, "first", languages()["en"], "en")
    assert "\nComputers affected: 1,250.\n" in text["body"] and "19 July 2026, 08:00 UTC" in text["body"]
    bound = {figure["fact"]: (figure["value"], figure["who"], figure["book_line"]) for figure in figures}
    assert bound["devices"] == (1250, "Luc Bern", 2) and bound["title"][2] == 1
    french, _ = draft(incident, "update", languages()["fr"], "fr")
    assert french["title"] == "Mise à jour : Check-in desks are down" and "1\u202f250" in french["body"]


def test_a_figure_without_a_source_is_refused(tmp_path: Path) -> None:
    incident = fold(book_with(tmp_path).read())["INC-1"]
    with pytest.raises(BadInput, match="has the figure 300 of its own"):
        draft(incident, "first", '{{ fact("title") }}\n\nAbout 300 desks.', "en")
    with pytest.raises(Refused, match="does not say clients"):
        draft(incident, "first", '{{ fact("title") }}\n\n{{ fact("clients") }} customers.', "en")
    with pytest.raises(BadInput, match="cannot be used"):
        draft(incident, "first", "{{ nothing }}", "en")


def test_a_language_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "it.j2").write_text('{{ fact("title") }}\n\nComputer colpiti: {{ fact("devices") }}.')
    incident = fold(book_with(tmp_path).read())["INC-1"]
    text, _ = draft(incident, "first", languages(tmp_path)["it"], "it")
    assert text["body"] == "Computer colpiti: 1,200."


def test_from_draft_to_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    book = book_with(tmp_path)
    monkeypatch.setenv("TIDEGATE_BOOK", str(book.directory))
    monkeypatch.chdir(tmp_path)

    def notice(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            run(["notice", *words])
        return int(ended.value.code or 0)

    assert notice("draft", "INC-1") == 0
    assert notice("publish", "last", "--out-dir", "site") == 1, "nobody has approved it"
    assert notice("publish", "--out-dir", "site") == 0
    assert "All services work." in (tmp_path / "site" / "index.html").read_text()
    assert notice("approve", "N-001", "--who", "root") == 2, "a person has two names"
    book.add(SET, {"incident": "INC-1", "values": {"devices": 1300}}, who="Luc Bern", why="", at_ms=AT + 1)
    capsys.readouterr()
    assert notice("approve", "N-001", "--who", "Mara Lind") == 1
    assert "devices was 1200, and is 1300 now" in capsys.readouterr().err
    assert notice("draft", "INC-1") == 0 and notice("approve", "N-002", "--who", "Mara Lind") == 0
    assert notice("approve", "N-002", "--who", "Mara Lind") == 1, "once"
    assert notice("publish", "--out-dir", "site") == 0
    site = tmp_path / "site"
    english, french = (site / "index.html").read_text(), (site / "index.fr.html").read_text()
    assert "1,300" in english and "Approved by Mara Lind" in english and "<script" not in english
    assert 'lang="fr"' in french and "Approuvé par Mara Lind" in french
    feed = ET.fromstring((site / "feed.atom").read_text())
    entries = feed.findall("{http://www.w3.org/2005/Atom}entry")
    assert len(entries) == 1 and feed.find("{http://www.w3.org/2005/Atom}id") is not None
    assert [one["notice"] for one in json.loads((site / "notices.json").read_text())["notices"]] == ["N-002"]
    note = parse_note((site / "signature.note").read_bytes())
    for line in note.text.splitlines()[1:]:
        digest, name = line.split("  ")
        assert hashlib.sha256((site / name).read_bytes()).hexdigest() == digest
    assert any(book.key.holds(note.text.encode(), raw) for _, _, raw in note.signatures)


def test_what_a_draft_says_is_held_against_the_record(tmp_path: Path) -> None:
    book = book_with(tmp_path)
    incident = fold(book.read())["INC-1"]
    text, figures = draft(incident, "first", languages()["en"], "en")
    body = {"notice": "N-001", "incident": "INC-1", "kind": "first", "texts": {"en": text}, "figures": figures}
    book.add("notice_drafted", body, who="Ines Roy", why="", at_ms=AT)
    found = fold_notices(book.read())["N-001"]
    assert changed_since(found, incident) == []
    incident.values["services"] = ["check-in", "boarding"]
    assert "services was" in changed_since(found, incident)[0]
