"""An account as one page that a lawyer can read: no scripts, nothing fetched, prints on paper."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from tidegate.control.timeline_check import digest_note
from tidegate.control.timeline_words import moment_text
from tidegate.core.words import counted
from tidegate.trust.checkpoint import parse_checkpoint
from tidegate.trust.note import parse_note

_STYLE = """
body { font: 15px/1.5 Georgia, serif; color: #1a1a1a; max-width: 60em; margin: 3em auto; padding: 0 1.5em }
h1 { font-size: 1.5em; overflow-wrap: anywhere } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; width: 100%; font-size: .9em } th, td { text-align: left; vertical-align: top;
padding: .35em .6em; border-bottom: 1px solid #ccc } code, td.n { font: .85em/1.5 monospace; overflow-wrap: anywhere }
td.t { white-space: nowrap } td small { color: #555 } .exposed { font-weight: bold }
.exposed small { font-weight: normal }
dt { font-weight: bold } dd { margin: 0 0 .5em 1.5em } .short { border-left: 4px solid #1a1a1a; padding: .1em 1em }
@media print { body { margin: 0; max-width: none } tr { break-inside: avoid } }
"""


def timeline_page(account: dict[str, Any]) -> str:
    """Give the page (HTML). It shows the account's own words; the JSON file beside it is what can be verified."""
    subject = account["subject"]
    checkpoint = parse_checkpoint(parse_note(account["checkpoint"].encode()).text)
    treated = [entry for entry in account["exposures"] if entry["exposed"]]
    records = account["records"]
    proven = sum("entry" in row for row in records)
    names = _names(records)
    title = f"Account of {subject['kind']} {names.get(subject['name'], subject['name'])}"
    digest = f"<p><code>{escape(subject['name'])}</code></p>" if subject["name"] in names else ""
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{digest}",
            f"<p>Drawn up on {escape(moment_text(account['made_ms']))} from the control plane's log",
            f" ({account['log_events']:,} events) and its ledger ({checkpoint.size:,} entries). All times are UTC, by",
            " the control plane's clock.</p>",
            f"<div class=short>{_short(account, treated, names)}</div>",
            f"<h2>Exposures</h2><p>{counted(len(treated), 'exposure')} and",
            f" {counted(len(account['exposures']) - len(treated), 'placebo run')} are on record.</p>",
            _exposures(account["exposures"], names, of_device=subject["kind"] == "device"),
            _WORDS,
            "<h2>What happened, in order</h2>",
            _records(records),
            "<h2>How far this can be relied on</h2>",
            _reliance(account, proven, len(records)),
            "</body></html>\n",
        ]
    )


def _names(records: list[dict[str, Any]]) -> dict[str, str]:
    """Give each release's digest the name by which people know it."""
    known = [found for row in records if (found := json.loads(row["text"])).get("kind") == "release"]
    return {str(r.get("digest")): f"{r.get('component')} {r.get('version')}" for r in known}


def _short(account: dict[str, Any], treated: list[dict[str, Any]], names: dict[str, str]) -> str:
    """Say in a few lines how it ended: for each rollout what it brought, to how many, and what became of them."""
    if not treated:
        return "<p>In short: on this record nothing was applied to any device.</p>"
    lines: list[str] = []
    for rollout in dict.fromkeys(entry["rollout"] for entry in treated):
        mine = [entry for entry in treated if entry["rollout"] == rollout]
        release = str(mine[0]["release"] or "")
        ends = [sum(entry["outcome"] == outcome for entry in mine) for outcome in ("confirmed", "reverted")]
        first, last = (moment_text(find(entry["leased_ms"] for entry in mine)) for find in (min, max))
        when = first if first == last else f"{first} to {last}"
        lines.append(
            f"<li>{escape(names.get(release, release[:16]))}, rollout {escape(str(rollout))}:"
            f" {counted(len(mine), 'exposure')}, {escape(when)}."
            f" Reported healthy: {ends[0]:,}. Taken back by the device itself: {ends[1]:,}."
            f" No word: {len(mine) - sum(ends):,}.</li>"
        )
    devices = len({entry["device"] for entry in treated})
    return f"<p>In short: {counted(devices, 'device')} exposed.</p><ul>{''.join(lines)}</ul>"


_WORDS = (
    "<h2>The words</h2><dl>"
    "<dt>exposed</dt><dd>The device was given leave to apply the release, and counts from that moment, whether or not"
    " it did apply it.</dd>"
    "<dt>placebo</dt><dd>For comparison: the device went through the same steps and kept what it had.</dd>"
    "<dt>confirmed</dt><dd>The device reported that all was healthy during the whole time of observation.</dd>"
    "<dt>reverted</dt><dd>The device found itself unwell and went back to what it ran before, by itself.</dd>"
    "<dt>no word</dt><dd>It has not reported. The control plane counts that as harm.</dd>"
    "<dt>ring</dt><dd>A batch of devices that were let begin together.</dd>"
    "<dt>verdict</dt><dd>What the control plane decided on the counts: go on (advance), wait (hold) or end it"
    " (halt).</dd>"
    "<dt>ledger entry</dt><dd>Where in the public, append-only ledger the record is proven.</dd></dl>"
)


def _exposures(exposures: list[dict[str, Any]], names: dict[str, str], *, of_device: bool) -> str:
    if not exposures:
        return "<p>None: nothing was applied.</p>"
    who = "" if of_device else "<th>device</th>"
    head = f"<tr>{who}<th>from</th><th>release, rollout</th><th>as</th><th>how it ended</th></tr>"
    rows: list[str] = []
    for entry in exposures:
        kind = "exposed" if entry["exposed"] else "placebo"
        ended = f"<br>{_when(entry['ended_ms'])}" if entry["ended_ms"] else ""
        release = str(entry["release"] or "")
        named = f"{escape(names[release])}<br>" if release in names else ""
        device = "" if of_device else f"<td class=n>{escape(str(entry['device_id'] or entry['device']))}</td>"
        rows.append(
            f"<tr class={kind}>{device}<td class=t>{_when(entry['leased_ms'])}</td>"
            f"<td>{named}<small>{escape(str(entry['rollout']))}<br><code>{escape(release)}</code></small></td>"
            f"<td>{kind}</td><td class=t>{escape(str(entry['outcome']))}{ended}</td></tr>"
        )
    return f"<table>{head}{''.join(rows)}</table>"


def _when(at_ms: int) -> str:
    day, hour, zone = moment_text(at_ms).split(" ")
    return f"{day}<br>{hour} {zone}"


def _records(records: list[dict[str, Any]]) -> str:
    rows = [
        f"<tr><td class=t>{_when(row['at_ms'])}</td><td>{escape(row['sentence'])}</td>"
        f"<td class=n>{escape(str(row.get('entry', 'signature')))}</td></tr>"
        for row in records
    ]
    return f"<table><tr><th>when</th><th>what</th><th>ledger entry</th></tr>{''.join(rows)}</table>"


def _reliance(account: dict[str, Any], proven: int, records: int) -> str:
    digest = digest_note(account).split("\n")[1]
    return (
        f"<p>{proven:,} of {records:,} records are proven to stand in the ledger, which nobody can change afterwards"
        " without its keepers and witnesses seeing it. Those marked <em>signature</em> are younger than the newest"
        " entry; the control plane's signature alone speaks for them. What a device did is its own report; the lease"
        " and its time are the control plane's. The proofs show that each record is genuine. That none is left out"
        " rests on the control plane's signature, or on an auditor who is given the log.</p>"
        "<p>This page is for reading. The JSON file that came with it holds the same words with the signature and the"
        " proofs. Whoever has that file and the ledger's public key checks it without a network:</p>"
        "<p><code>tidegate timeline verify FILE --key KEY</code></p>"
        f"<p>Ledger key: <code>{escape(account['key'])}</code><br>"
        f"Digest of the account (SHA-256): <code>{digest}</code></p>"
    )
