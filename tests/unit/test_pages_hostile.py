"""Pages show what strangers wrote as text: no tag, no script, no address of theirs; pictures and feeds too."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace as Some
from typing import Any
from xml.etree import ElementTree

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.contingency.notice import Notice
from tidegate.contingency.pack import plans_page
from tidegate.contingency.status import Site, status_files
from tidegate.control.timeline_page import timeline_page
from tidegate.exposure.svg import Svg
from tidegate.gate.page import page as gate_page
from tidegate.trust.checkpoint import Checkpoint, sign_checkpoint
from tidegate.trust.note import NoteSigner

EVIL = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)></title></code></td>{{ 'zq' * 3 }}&lt;b&gt;<!-- ]]> -->"
)
LEDGER = NoteSigner("ledger.example", Ed25519PrivateKey.generate())


class Reader(HTMLParser):
    """Reads a page as a browser would, and notes what acts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.acts: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            address = name in ("href", "src", "action", "formaction", "xlink:href")
            leads_away = address and not (value or "").startswith(("#", "index", "feed", "signature"))
            if name.startswith("on") or leads_away or name == "srcdoc":
                self.acts.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _read(page: str, least: int) -> None:
    reader = Reader()
    reader.feed(page)
    assert not reader.acts, reader.acts
    assert not reader.tags & {"script", "img", "iframe", "object", "embed", "base", "form"}, reader.tags
    whole = "".join(reader.texts)
    assert whole.count("onerror=alert(2)") >= least, "what was written is not shown"
    assert "zqzqzq" not in whole  # nothing that looks like a template is one


def _finding() -> dict[str, Any]:
    return {"grave": True, "note": False, "place": EVIL, "sentence": EVIL, "sample": "s" + EVIL, "quote": EVIL}


def test_the_gates_page_shows_hostile_content_as_text() -> None:
    checks = [
        {"check": EVIL, "result": result, "question": EVIL, "skipped": EVIL, "reused": False, "took_s": 0.5,
         "findings": [_finding(), {**_finding(), "grave": False}], "figures": {EVIL: EVIL, "n": [EVIL, {EVIL: EVIL}]}}
        for result in ("FAILED", "WARNED")
    ]  # fmt: skip
    edition = {"version": EVIL, "digest": EVIL, "component": EVIL, "seq": 1, "driver": EVIL}
    change = {"rule": EVIL, "file": EVIL, "line": 3, "about": EVIL}
    pair = {"pair": EVIL, "devices": 2}
    report: dict[str, Any] = {
        "release": edition, "baselines": [edition], "passed": False, "refused_by": [EVIL], "took_s": 1.0,
        "gate": EVIL, "interpreters": [{"name": EVIL}], "checks": checks,
        "notes": {"sentence": EVIL, "added": [change], "changed": [change], "removed": [change]},
        "coverage": {"versions": [EVIL], "covered": 1, "pairs": 2, "labels": [EVIL], "not_covered": [pair],
                     "covered_pairs": [pair]},
    }  # fmt: skip
    _read(gate_page(report), 30)


def test_a_timelines_page_shows_hostile_content_as_text() -> None:
    exposure = {"device": EVIL, "device_id": EVIL, "leased_ms": 1, "ended_ms": 2, "rollout": EVIL, "release": EVIL}
    text = json.dumps({"kind": "release", "digest": EVIL, "component": EVIL, "version": EVIL})
    account: dict[str, Any] = {
        "type": "x", "subject": {"kind": EVIL, "name": EVIL}, "made_ms": 1, "log_events": 2, "key": EVIL,
        "checkpoint": sign_checkpoint(Checkpoint("ledger.example", 0, bytes(32)), LEDGER).decode(),
        "exposures": [{**exposure, "exposed": exposed, "outcome": EVIL} for exposed in (True, False)],
        "records": [
            {"at_ms": 1, "sentence": EVIL, "entry": EVIL, "text": text}, {"at_ms": 2, "sentence": EVIL, "text": text},
        ],
    }  # fmt: skip
    _read(timeline_page(account), 10)


def test_plans_on_paper_show_hostile_content_as_text() -> None:
    step = Some(kind="command", text=EVIL, per_device=False, minutes=1.0, skill=EVIL, who=EVIL)
    plan = Some(
        name=EVIL, service=EVIL, trigger=(EVIL, EVIL), owner=EVIL, deputy=EVIL, fallback=EVIL, rto_s=60, rpo_s=60,
        needs=[Some(names=(EVIL,))], depends_on=(EVIL,), messages=[Some(to=EVIL, how=EVIL, within_s=60)],
        steps=[step, Some(**{**vars(step), "per_device": True})],
    )  # fmt: skip
    plans: Any = Some(plans=[plan])
    _read(plans_page(plans, EVIL, EVIL), 15)


def test_a_picture_and_a_feed_are_whole_whatever_stands_in_them() -> None:
    svg = Svg(width=10, height=10, title=EVIL)
    svg.box(0, 0, 1, 1, "#fff", tip=EVIL)
    svg.text(0, 0, EVIL)
    root = ElementTree.fromstring(svg.render())
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {"svg", "title", "rect", "text"}
    assert root.attrib["aria-label"] == EVIL


def test_public_notices_show_hostile_content_as_text() -> None:
    texts = {"en": {"title": EVIL, "body": f"{EVIL}\n\n{EVIL}"}}
    notices = [
        Notice(name, name, kind, texts, [], 1, EVIL, approved_by=EVIL, approved_ms=2, published_ms=3)
        for name, kind in (("n1", "first"), ("n2", "resolved"))
    ]
    files = status_files(notices, Site(EVIL, "https://status.example"), LEDGER, datetime(2026, 11, 26, tzinfo=UTC))
    _read(files["index.html"].decode(), 8)
    feed = ElementTree.fromstring(files["feed.atom"].decode())
    assert [element.text for element in feed.iter() if element.tag.endswith("}title")][1:] == [EVIL, EVIL]
