"""One signed bundle of all plans, readable when everything is down: a zip with a page that prints, and the sources."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from html import escape
from pathlib import Path

from tidegate.contingency.page import page, qr, table
from tidegate.contingency.plan import Plan, PlanSet, Step
from tidegate.core.errors import BadInput, Untrusted
from tidegate.trust.durable import read_bytes
from tidegate.trust.note import Note, NoteKey, NoteSigner, parse_note

PAGE, MANIFEST, SIGNATURE = "plans.html", "manifest.json", "manifest.note"
MOST_BUNDLE = 200_000_000
MOST_QR = 1200
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(plans: PlanSet, signer: NoteSigner, made: str, more: list[Path] | None = None) -> bytes:
    """Give the bundle: the same plans, key and `made` give the same bytes.

    Args:
        plans: what goes in.
        signer: the book's key.
        made: the moment, as text.
        more: further files, as an estate.
    """
    files: dict[str, bytes] = {PAGE: plans_page(plans, signer.key.text(), made).encode()}
    for plan in plans.plans:
        files[f"plans/{plan.file.name}"] = plan.file.read_bytes()
        if plan.case is not None and plan.case.is_file():
            files[f"cases/{plan.case.name}"] = plan.case.read_bytes()
    for path in more or []:
        files[f"more/{path.name}"] = read_bytes(path, "a file for the bundle")
    listed = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    manifest = json.dumps({"v": 1, "made": made, "plans": len(plans.plans), "files": listed}, indent=1).encode()
    files[MANIFEST] = manifest
    digest = hashlib.sha256(manifest).hexdigest()
    files[SIGNATURE] = Note(f"tidegate contingency bundle\n{digest}\n").signed_by(signer).data()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return out.getvalue()


def verify(data: bytes, key: NoteKey) -> dict[str, object]:
    """Check a bundle with the key of the book that signed it. Gives its manifest.

    Raises:
        BadInput: if it is no bundle.
        Untrusted: if the signature does not hold, or a file was changed, added or taken away.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        names = archive.namelist()
        if sum(info.file_size for info in archive.infolist()) > MOST_BUNDLE:
            raise BadInput("the bundle is larger than 200 MB when it is unpacked")
        files = {name: archive.read(name) for name in names}
        note = parse_note(files[SIGNATURE])
        manifest = json.loads(files[MANIFEST])
        listed = dict(manifest["files"])
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, RecursionError, NotImplementedError):
        raise BadInput("this is no bundle that tidegate contingency pack has made") from None
    said = f"tidegate contingency bundle\n{hashlib.sha256(files[MANIFEST]).hexdigest()}\n"
    if note.text != said or not _signed(note, key):
        raise Untrusted(f"the bundle is not signed by {key.name} (key {key.key_id.hex()}), or was changed")
    if len(set(names)) != len(names) or set(names) != {*listed, MANIFEST, SIGNATURE}:
        raise Untrusted("files were added to the bundle or taken away")
    for name, digest in listed.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise Untrusted(f"{name} in the bundle was changed")
    return manifest


def _signed(note: Note, key: NoteKey) -> bool:
    return any(
        name == key.name and key_id == key.key_id and key.holds(note.text.encode(), raw)
        for name, key_id, raw in note.signatures
    )


def plans_page(plans: PlanSet, key: str, made: str) -> str:
    """Give the page: a list, then each plan on sheets of its own."""
    rows = [
        [
            f'<a href="#{escape(plan.name)}">{escape(plan.name)}</a>',
            escape(plan.service),
            escape(" ".join(plan.trigger)),
            escape(plan.owner or "nobody"),
            _span(plan.rto_s),
        ]
        for plan in plans.plans
    ]
    head = (
        f"<h1>Contingency plans</h1><p class=soft>{len(plans.plans)} plans, made {escape(made)}. This page works"
        " without a network. Print it and keep it where the power of the servers does not matter.</p>"
        f"{table(['plan', 'service', 'when this fails', 'owner', 'RTO'], rows)}"
    )
    foot = f"<h2>Whether this is genuine</h2><p><code>tidegate contingency verify BUNDLE --key {escape(key)}</code></p>"
    return page("Contingency plans", head + "".join(_sheet(plan) for plan in plans.plans) + foot)


def _sheet(plan: Plan) -> str:
    kind, name = plan.trigger
    parts = [
        f'<section class=sheet id="{escape(plan.name)}"><h2>{escape(plan.name)}</h2>',
        f"<p>When <b>{escape(kind)} {escape(name)}</b> fails, bring back <b>{escape(plan.service)}</b>"
        f"{f' within <b>{_span(plan.rto_s)}</b>' if plan.rto_s else ''}"
        f"{f'; at most {_span(plan.rpo_s)} of data may be lost' if plan.rpo_s else ''}.</p>",
        f"<p>Owner: <b>{escape(plan.owner or 'nobody')}</b>. Deputy: <b>{escape(plan.deputy or 'nobody')}</b>.</p>",
    ]
    if plan.fallback:
        parts.append(f"<div class=card><h3>Until then, by hand</h3><p>{escape(plan.fallback)}</p></div>")
    if plan.needs:
        items = "".join(f"<li><span class=box></span> {escape(' or '.join(need.names))}</li>" for need in plan.needs)
        parts.append(f"<h3>You need</h3><ul>{items}</ul>")
    if plan.depends_on:
        parts.append(f"<p>Must be back before it: {escape(', '.join(plan.depends_on))}.</p>")
    once, each = [s for s in plan.steps if not s.per_device], [s for s in plan.steps if s.per_device]
    if once:
        parts.append(f"<h3>Steps</h3><ol>{''.join(_step(one) for one in once)}</ol>")
    if each:
        parts.append(_each_device(plan, each))
    if plan.messages:
        told = [[escape(m.to), escape(m.how), _span(m.within_s) if m.within_s else ""] for m in plan.messages]
        parts.append(f"<h3>Tell</h3>{table(['whom', 'how', 'within'], told)}")
    return "".join(parts) + "</section>"


def _each_device(plan: Plan, steps: list[Step]) -> str:
    text = f"{plan.name}\n" + "\n".join(f"{n}. {one.text}" for n, one in enumerate(steps, 1))
    code = qr(text if len(text.encode()) <= MOST_QR else text.encode()[:MOST_QR].decode(errors="ignore") + " ...")
    return (
        f"<h3>On each device</h3><div class=codes>{code}<div><ol>{''.join(_step(one) for one in steps)}</ol>"
        "<p class=soft>Scan to have these steps on a telephone; no network is needed.</p></div></div>"
    )


def _step(one: Step) -> str:
    about = [one.kind, f"{one.minutes:g} min" if one.minutes else "", one.skill and f"needs {one.skill}", one.who]
    text = f"<code>{escape(one.text)}</code>" if one.kind == "command" else escape(one.text)
    return f"<li>{text} <span class=tag>{escape(' · '.join(part for part in about if part))}</span></li>"


def _span(seconds: int) -> str:
    if not seconds:
        return "not said"
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit != "days"):
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds} s"
