"""Release notes for those who subscribe: an Atom feed beside the signed files, and what a webhook is sent.

The feed is made from the log alone; what was sent to whom is kept in one file, so that a restart sends nothing twice
that was taken, and everything that was not.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from tidegate.control.state import Release
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.wire import canonical, plain, read
from tidegate.trust.durable import make_directory, write_durably

ATOM = "http://www.w3.org/2005/Atom"
MOST_ENTRIES = 50
MOST_SENT = 1000
SHOWN = 8
"""Characters of a webhook's path that are shown: the rest may be a secret."""
LOCAL = ("127.0.0.1", "localhost", "::1")


def atom(component: str, releases: Sequence[Release]) -> bytes:
    """Write the feed of a component: its newest releases, the newest first. RFC 4287."""
    mine = [release for release in releases if release.manifest.component == component]
    mine.sort(key=lambda release: (release.logged_ms, release.manifest.seq), reverse=True)
    feed = ElementTree.Element("feed", xmlns=ATOM)
    _text(feed, "id", f"urn:tidegate:feed:{component}")
    _text(feed, "title", f"Releases of {component}")
    _text(feed, "updated", _moment(mine[0].logged_ms if mine else 0))
    author = ElementTree.SubElement(feed, "author")
    _text(author, "name", "Tidegate")
    for release in mine[:MOST_ENTRIES]:
        entry = ElementTree.SubElement(feed, "entry")
        manifest = release.manifest
        _text(entry, "id", f"urn:tidegate:release:{release.digest}")
        _text(entry, "title", f"{component} {manifest.version} (sequence {manifest.seq})")
        _text(entry, "updated", _moment(release.logged_ms))
        urgent = "An urgent release.\n" if release.emergency else ""
        _text(entry, "content", f"{urgent}{manifest.notes or 'No notes.'}", type="text")
    return ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True)


def _text(above: ElementTree.Element, name: str, text: str, **attributes: str) -> None:
    # What XML cannot hold would make the whole feed unreadable.
    fit = "".join(c if c in "\n\t" or " " <= c < "\ud800" or "\ue000" <= c <= "\ufffd" else "?" for c in text)
    ElementTree.SubElement(above, name, attributes).text = fit


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_feeds(repository: Path, releases: Iterable[Release]) -> list[Path]:
    """Lay each component's feed beside the signed files, where it has changed. Gives those that were written."""
    known, written = list(releases), []
    for component in sorted({release.manifest.component for release in known}):
        path, data = repository / "feeds" / f"{component}.atom", atom(component, known)
        if not path.exists() or path.read_bytes() != data:
            make_directory(path.parent)
            write_durably(path, data)
            written.append(path)
    return written


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Somebody's webhook: told of releases of `component` (empty: all) that are logged from `since_ms` on."""

    url: str
    component: str
    secret: str
    since_ms: int
    sent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError("a webhook's address must begin with https:// and hold no password")
        if parts.scheme == "http" and parts.hostname not in LOCAL:
            raise ValueError("a webhook beyond this machine must be https://")
        if len(self.secret) < 16:
            raise ValueError("a webhook's secret must have at least 16 characters")

    def wants(self, release: Release) -> bool:
        """Whether this release is still to be sent."""
        mine = self.component in ("", release.manifest.component)
        return mine and release.logged_ms >= self.since_ms and release.digest not in self.sent


def shown_url(url: str) -> str:
    """Give what may be shown of a webhook's address: scheme, host, first characters."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    rest = url.partition("://")[2].partition("/")[2] if parts.path.startswith("/") else parts.query
    port = f":{parts.port}" if parts.port else ""
    more = f"/{rest[:SHOWN]}..." if len(rest) > SHOWN else f"/{rest}" if rest else ""
    return f"{parts.scheme}://{host}{port}{more}"


class Subscribers:
    """The file of subscribers, 0600: it holds their secrets."""

    def __init__(self, path: Path) -> None:
        """Name the file, which is made with the first subscriber."""
        self.path = path

    def all(self) -> list[Subscriber]:
        """Read all. Raises BadInput if the file is wrong."""
        if not self.path.exists():
            return []
        try:
            value = json.loads(self.path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{self.path} is not JSON: {error}") from None
        if not isinstance(value, list):
            raise BadInput(f"{self.path} must hold a list of subscribers")
        return [read(Subscriber, each, f"{self.path.name}[{n}]") for n, each in enumerate(value)]  # pyright: ignore

    def add(self, subscriber: Subscriber) -> None:
        """Add one. Raises Refused if it is there already."""
        known = self.all()
        if any((each.url, each.component) == (subscriber.url, subscriber.component) for each in known):
            raise Refused(f"{shown_url(subscriber.url)} is subscribed already")
        self._write([*known, subscriber])

    def remove(self, url: str) -> None:
        """Remove all subscriptions of an address. Raises NotFound."""
        known = self.all()
        left = [each for each in known if each.url != url]
        if len(left) == len(known):
            raise NotFound(f"{shown_url(url)} is not subscribed")
        self._write(left)

    def sent(self, subscriber: Subscriber, digest: str) -> None:
        """Note that a release was taken; a subscriber that was removed meanwhile stays removed."""
        key = subscriber.url, subscriber.component
        self._write(
            [
                replace(each, sent=(*each.sent, digest)[-MOST_SENT:]) if (each.url, each.component) == key else each
                for each in self.all()
            ]
        )

    def _write(self, subscribers: list[Subscriber]) -> None:
        write_durably(self.path, canonical(plain(subscribers)), 0o600)


def message(release: Release) -> bytes:
    """Give what a webhook is sent for a release."""
    manifest = release.manifest
    value: dict[str, Any] = {
        "v": 1,
        "kind": "release",
        "component": manifest.component,
        "version": manifest.version,
        "seq": manifest.seq,
        "digest": release.digest,
        "notes": manifest.notes,
        "emergency": release.emergency,
        "logged_ms": release.logged_ms,
    }
    return canonical(value)


def signature(secret: str, data: bytes) -> str:
    """Give the header by which a receiver knows that a message is from here."""
    return f"sha256={hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()}"
