"""`tidegate notice`: what the public is told: drafted from the record, approved by a named person, then published."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.book import me, open_book, write
from tidegate.cli.incidents import all_incidents
from tidegate.cli.show import moment, out, out_json, table
from tidegate.contingency.incident import find
from tidegate.contingency.notice import (
    APPROVED,
    DRAFTED,
    PUBLISHED,
    changed_since,
    find_notice,
    fold_notices,
    languages,
)
from tidegate.contingency.notice import draft as fill
from tidegate.contingency.status import Site, status_files
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.words import counted
from tidegate.trust.durable import make_directory, write_durably

app = App(name="notice", help="Public notices: drafted from the record, approved by a named person, then published.")


@app.command
def draft(
    incident: str = "last",
    /,
    *,
    kind: str = "first",
    lang: list[str] | None = None,
    templates: Path | None = None,
    who: str = "",
    home: Path | None = None,
) -> None:
    """Draft a notice from an incident's record. Every figure in it is a fact of the record, with its source.

    Args:
        incident: Its name, or last.
        kind: first, update or resolved.
        lang: Languages; default: all that have a template (en, fr).
        templates: A directory of templates of your own, as fr.j2: a new language, or other words.
        who: Who drafts; default: your account.
        home: The control plane's directory.
    """
    found = find(all_incidents(home), incident)
    known = languages(templates)
    wanted = lang or list(known)
    for one in wanted:
        if one not in known:
            raise NotFound(f"there is no template for {one!r}; there are {', '.join(known)}; --templates adds your own")
    filled = {one: fill(found, kind, known[one], one) for one in wanted}
    texts = {one: text for one, (text, _) in filled.items()}
    figures = [figure for _, each in filled.values() for figure in each]
    number = len(fold_notices(open_book(home).read())) + 1
    name = f"N-{number:03d}"
    body = {"notice": name, "incident": found.name, "kind": kind, "texts": texts, "figures": figures}
    write(home, DRAFTED, body, who=who)
    out(f"Notice {name} is drafted. Read it: tidegate notice show {name}. Then: tidegate notice approve")


@app.command
def show(notice: str = "last", /, *, home: Path | None = None, json: bool = False) -> None:
    """Show a notice's texts, and where each of its figures comes from.

    Args:
        notice: Its name, or last.
        home: The control plane's directory.
        json: Print JSON.
    """
    found = find_notice(fold_notices(open_book(home).read()), notice)
    if json:
        out_json({name: getattr(found, name) for name in found.__slots__})
        return
    for language, text in found.texts.items():
        out(f"[{language}] {text['title']}")
        out(text["body"])
        out()
    rows = {(f["fact"], str(f["value"]), f"{f['who']}, book line {f['book_line']}") for f in found.figures}
    table("Where each figure comes from", ("fact", "value", "said by"), sorted(rows), empty="")
    out(_state(found))


def _state(found: Any) -> str:
    if found.published_ms:
        return f"Approved by {found.approved_by}; published {moment(found.published_ms)}."
    return f"Approved by {found.approved_by}, not published." if found.approved_by else "Not approved yet."


@app.command(name="list")
def listing(*, home: Path | None = None, json: bool = False) -> None:
    """List all notices, the newest last.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = fold_notices(open_book(home).read())
    if json:
        out_json({"notices": [{name: getattr(one, name) for name in one.__slots__} for one in found.values()]})
        return
    rows = [(o.name, o.incident, o.kind, next(iter(o.texts.values()))["title"], _state(o)) for o in found.values()]
    table(
        "Notices", ("notice", "incident", "kind", "title", "state"), rows, empty="No notice yet: tidegate notice draft"
    )


@app.command
def approve(notice: str, /, *, who: str, why: str = "", home: Path | None = None) -> None:
    """Approve a notice, as a named person. Exit code 1 if the record says otherwise by now: then draft it again.

    Args:
        notice: Its name, or last.
        who: The person who answers for it.
        why: A remark, for the record.
        home: The control plane's directory.
    """
    if len(who.split()) < 2:
        raise BadInput("--who must name a person, by first and last name")
    found = find_notice(fold_notices(open_book(home).read()), notice)
    if found.approved_by:
        raise Refused(f"{found.name} was approved by {found.approved_by}")
    changed = changed_since(found, find(all_incidents(home), found.incident))
    if changed:
        raise Refused(f"the record has changed since {found.name} was drafted ({'; '.join(changed)}): draft it again")
    write(home, APPROVED, {"notice": found.name, "account": me()}, who=who, why=why)
    out(f"{found.name} is approved by {who}. Next: tidegate notice publish --out-dir DIR")


@app.command
def publish(
    notice: str = "",
    /,
    *,
    out_dir: Path,
    name: str = "",
    address: str = "",
    home: Path | None = None,
) -> None:
    """Write the status page as static files: pages, Atom feeds, notices.json, and a signature over them.

    What is approved goes out; what is not stays. Exit code 1 if a notice that is named is not approved.

    Args:
        notice: One notice, or last; default: all that are approved.
        out_dir: Where the files go; copy them to any web server or CDN.
        name: What the page is called; default: the incident's publisher.
        address: Where it will stand, as in https://status.example.org; default: the incident's namespace.
        home: The control plane's directory.
    """
    book = open_book(home)
    notices = fold_notices(book.read())
    wanted = [find_notice(notices, notice)] if notice else [one for one in notices.values() if one.approved_by]
    for one in wanted:
        if not one.approved_by:
            raise Refused(f"{one.name} is not approved: tidegate notice approve {one.name} --who NAME")
        if not one.published_ms:
            write(home, PUBLISHED, {"notice": one.name}, why=f"approved by {one.approved_by}")
    shown = [one for one in fold_notices(book.read()).values() if one.published_ms]
    incidents = all_incidents(home)
    facts = incidents[shown[-1].incident].values if shown and shown[-1].incident in incidents else {}
    site = Site(
        name or facts.get("publisher") or "Status", address or facts.get("namespace") or "https://status.example"
    )
    files = status_files(shown, site, book.signer(), datetime.now(UTC))
    make_directory(out_dir)
    for file, data in files.items():
        write_durably(out_dir / file, data)
    notices = counted(len(shown), "notice")
    out(f"Written: {counted(len(files), 'file')} in {out_dir}, {notices}. Copy them to any web server.")
