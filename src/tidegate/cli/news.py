"""Release notes at the command line: made from two contents, read and signed by reviewers, sent to subscribers."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from tidegate.cli.evidence import EVIDENCE, write_evidence
from tidegate.cli.gate import Wanted, trial_of
from tidegate.cli.home import Home, default_home
from tidegate.cli.passphrase import open_keys
from tidegate.cli.release_files import Draft
from tidegate.cli.show import moment, out, out_json, table
from tidegate.control.news import Subscriber, Subscribers, shown_url
from tidegate.core.errors import BadInput, NotFound
from tidegate.gate.notes import Notes, compare
from tidegate.gate.settings import Settings
from tidegate.trust.durable import read_bytes, read_secret, write_durably
from tidegate.trust.statement import Subject, review

MOST_NOTES = 4000


def notes_between(release: Path, baseline: Path, driver: str) -> Notes:
    """Compare two releases, or bare directories of content, rule by rule."""
    with trial_of(release, Wanted(Settings(), Path(), baselines=(baseline,), driver=driver)) as trial:
        if not trial.baselines:
            raise BadInput(f"{baseline} is the same release as {release}; there is nothing to compare")
        return compare(trial.sources_of(trial.baselines[0]), trial.sources)


def notes(
    release: Path, /, *, baseline: Path, driver: str = "yara", output: Path | None = None, json: bool = False
) -> None:
    """Write release notes: which rules are new, changed or gone against a baseline, and where they stand.

    Args:
        release: A release's directory, or a bare directory of content.
        baseline: What devices run now, in the same form.
        driver: What a bare directory of content is for.
        output: Write them (Markdown) to this file.
        json: Print JSON.
    """
    found = notes_between(release, baseline, driver)
    if json:
        out_json(found.plain())
        return
    text = found.text(f"{release.name} against {baseline.name}")
    if output:
        write_durably(output, text.encode())
        out(f"{output}: {found.sentence}")
    else:
        out(text)


def review_release(
    release: Path,
    /,
    *,
    key: Path,
    reviewer: str,
    refuse: bool = False,
    notes: Path | None = None,
    note: str = "",
    passphrase_file: Path | None = None,
) -> None:
    """Sign that you have read a release's notes, and whether it may go. A policy can demand two who say so.

    Args:
        release: The release's directory.
        key: Your own key (PEM).
        reviewer: Your name.
        refuse: Say no: then no rollout of it starts where the policy asks for your word.
        notes: The notes that you have read; default: those of its manifest.
        note: A remark, for the record.
        passphrase_file: The key's passphrase from a file instead of asking for it.
    """
    draft = Draft.load(release)
    text = read_bytes(notes, "the release notes") if notes else draft.manifest.notes.encode()
    subject = Subject(f"{draft.manifest.component} {draft.manifest.version}", draft.digest)
    said = review(
        subject,
        reviewer=reviewer,
        approves=not refuse,
        notes_sha256=hashlib.sha256(text).hexdigest(),
        note=note,
        at_s=time.time(),
    )
    envelope = said.signed(open_keys([key], passphrase_file, None))
    write_evidence(release / EVIDENCE, [envelope], [f"review-{envelope.digest[:16]}"])
    word = "refuses" if refuse else "approves"
    out(f"{reviewer} {word} {draft.digest[:16]}. Next: tidegate evidence submit {release}")


def subscribe(url: str, /, *, secret_file: Path, component: str = "", home: Path | None = None) -> None:
    """Send the notes of each coming release to a webhook, signed by HMAC-SHA256 in the header Tidegate-Signature.

    Args:
        url: Where to; https, or this machine.
        secret_file: A file with the secret that both sides know, at least 16 characters.
        component: Releases of this component alone; default: all.
        home: The control plane's directory.
    """
    place = Home(home or default_home())
    place.check()
    secret = read_secret(secret_file, "the secret").decode(errors="replace").strip()
    try:
        subscriber = Subscriber(url, component, secret, int(time.time() * 1000))
    except ValueError as error:
        raise BadInput(str(error)) from None
    Subscribers(place.path / "subscribers.json").add(subscriber)
    out(f"{shown_url(url)} is told of each release of {component or 'any component'} from now on.")


def unsubscribe(url: str, /, *, home: Path | None = None) -> None:
    """Send a webhook nothing any more.

    Args:
        url: Its address, or its number in tidegate release subscribers.
        home: The control plane's directory.
    """
    place = Home(home or default_home())
    place.check()
    known = Subscribers(place.path / "subscribers.json")
    if url.isdecimal():
        if not 1 <= int(url) <= len(known.all()):
            raise NotFound(f"there is no subscriber number {url}; list them: tidegate release subscribers")
        url = known.all()[int(url) - 1].url
    known.remove(url)
    out(f"{shown_url(url)} is told nothing any more.")


def subscribers(*, home: Path | None = None, json: bool = False) -> None:
    """List who is told of releases. The Atom feeds need no subscription: REPO/feeds/COMPONENT.atom.

    Args:
        home: The control plane's directory.
        json: Print JSON, without the secrets; of an address, which can be one, its beginning alone.
    """
    place = Home(home or default_home())
    place.check()
    known = Subscribers(place.path / "subscribers.json").all()
    if json:
        rest = [{"component": s.component, "since_ms": s.since_ms, "sent": len(s.sent)} for s in known]
        out_json([{"url": shown_url(s.url), **each} for s, each in zip(known, rest, strict=True)])
        return
    rows = [
        (number, shown_url(s.url), s.component or "any", moment(s.since_ms), len(s.sent))
        for number, s in enumerate(known, start=1)
    ]
    table("Subscribers", ("number", "address", "component", "since", "taken"), rows, empty="Nobody is told by webhook.")
