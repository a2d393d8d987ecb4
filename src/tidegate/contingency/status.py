"""The status page as static files, for any web server or CDN, without scripts; an Atom feed; a signature over all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from xml.sax.saxutils import escape as xml

from tidegate.contingency.moments import from_ms, moment_text
from tidegate.contingency.notice import Notice, moment_words
from tidegate.contingency.page import page
from tidegate.trust.note import Note, NoteSigner

TEXT = "tidegate status page\n"
WORDS = {
    "en": ("Status", "All services work.", "What happened before", "Approved by {who}", "Languages", "News feed"),
    "fr": (
        "État des services",
        "Tous les services fonctionnent.",
        "Historique",
        "Approuvé par {who}",
        "Langues",
        "Fil d’actualité",
    ),
}
_CSP = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"


@dataclass(frozen=True, slots=True)
class Site:
    """What the page is called, and where it will stand."""

    name: str
    address: str


def status_files(notices: Sequence[Notice], site: Site, signer: NoteSigner, now: datetime) -> dict[str, bytes]:
    """Give all files by name. Only what is given is in them: give published notices alone.

    Raises nothing: without notices the page says that all is well.
    """
    languages = sorted(
        {language for one in notices for language in one.texts} | {"en"}, key=lambda one: (one != "en", one)
    )
    found: dict[str, bytes] = {}
    for language in languages:
        name = "index.html" if language == "en" else f"index.{language}.html"
        found[name] = _page(notices, site, language, languages, now).encode()
        found["feed.atom" if language == "en" else f"feed.{language}.atom"] = _feed(
            notices, site, language, now
        ).encode()
    rows = [
        {
            "notice": one.name,
            "incident": one.incident,
            "kind": one.kind,
            "texts": one.texts,
            "figures": [
                {name: figure[name] for name in ("fact", "text", "language", "book_line")} for figure in one.figures
            ],
            "approved_by": one.approved_by,
            "published": moment_text(from_ms(one.published_ms)),
        }
        for one in notices
    ]
    found["notices.json"] = (json.dumps({"v": 1, "notices": rows}, indent=1, ensure_ascii=False) + "\n").encode()
    listed = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(found.items()))
    found["signature.note"] = Note(TEXT + listed).signed_by(signer).data()
    return found


def _words(language: str) -> tuple[str, ...]:
    return WORDS.get(language, WORDS["en"])


def _text(one: Notice, language: str) -> dict[str, str]:
    return one.texts.get(language) or one.texts.get("en") or next(iter(one.texts.values()))


def _newest(notices: Sequence[Notice]) -> list[Notice]:
    return sorted(notices, key=lambda one: one.published_ms, reverse=True)


def _page(notices: Sequence[Notice], site: Site, language: str, languages: Sequence[str], now: datetime) -> str:
    title, well, before, _, _, feed = _words(language)
    latest: dict[str, Notice] = {}
    for one in _newest(notices):
        latest.setdefault(one.incident, one)
    current = [one for one in latest.values() if one.kind != "resolved"]
    links = " · ".join(
        f'<a href="{"index.html" if one == "en" else f"index.{one}.html"}">{escape(one)}</a>' for one in languages
    )
    feed_file = "feed.atom" if language == "en" else f"feed.{language}.atom"
    head = f'{_CSP}<link rel="alternate" type="application/atom+xml" href="{feed_file}">'
    body = [
        f"<p class=soft>{links} · <a href={feed_file}>{feed}</a></p>",
        f"<h1>{escape(site.name)}: {escape(title)}</h1>",
    ]
    body += [_card(one, language) for one in current] or [f"<div class=card><p><b>{escape(well)}</b></p></div>"]
    rest = [one for one in _newest(notices) if one not in current]
    if rest:
        body += [f"<h2>{escape(before)}</h2>", *(_card(one, language) for one in rest)]
    body.append(
        f"<p class=soft>{escape(moment_words(moment_text(now), language))} · <a href=signature.note>signature</a></p>"
    )
    return page(f"{site.name}: {title}", "".join(body), language, head)


def _card(one: Notice, language: str) -> str:
    text = _text(one, language)
    paragraphs = "".join(f"<p>{escape(part)}</p>" for part in text["body"].split("\n") if part.strip())
    at = moment_words(moment_text(from_ms(one.published_ms)), language)
    by = _words(language)[3].format(who=one.approved_by)
    return (
        f'<article class=card id="{escape(one.name)}"><h3>{escape(text["title"])}</h3>{paragraphs}'
        f"<p class=soft>{escape(at)} · {escape(by)}</p></article>"
    )


def _feed(notices: Sequence[Notice], site: Site, language: str, now: datetime) -> str:
    """Give the Atom feed (RFC 4287)."""
    base = site.address.rstrip("/")
    file = "feed.atom" if language == "en" else f"feed.{language}.atom"
    newest = _newest(notices)
    updated = moment_text(from_ms(newest[0].published_ms)) if newest else moment_text(now)
    entries = "".join(
        f"<entry><id>{xml(base)}/#{xml(one.name)}</id><title>{xml(_text(one, language)['title'])}</title>"
        f'<updated>{moment_text(from_ms(one.published_ms))}</updated><link href="{xml(base)}/#{xml(one.name)}"/>'
        f'<content type="text">{xml(_text(one, language)["body"])}</content></entry>\n'
        for one in newest
    )
    name, title = xml(site.name), f"{xml(site.name)}: {xml(_words(language)[0])}"
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="{xml(language)}">\n'
        f"<id>{xml(base)}/</id><title>{title}</title><updated>{updated}</updated>\n"
        f'<link rel="self" href="{xml(base)}/{file}"/><author><name>{name}</name></author>\n{entries}</feed>\n'
    )
