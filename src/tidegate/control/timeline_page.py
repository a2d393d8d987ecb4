"""An account as one page that a lawyer can read: no scripts, nothing fetched, prints on paper."""

from __future__ import annotations

from html import escape
from typing import Any

from tidegate.control.timeline_check import digest_note
from tidegate.control.timeline_words import counted, moment_text
from tidegate.trust.checkpoint import parse_checkpoint
from tidegate.trust.note import parse_note

_STYLE = """
body { font: 15px/1.5 Georgia, serif; color: #1a1a1a; max-width: 60em; margin: 3em auto; padding: 0 1.5em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; width: 100%; font-size: .9em } th, td { text-align: left; vertical-align: top;
padding: .35em .6em; border-bottom: 1px solid #ccc } code, td.n { font: .85em/1.5 monospace; overflow-wrap: anywhere }
.exposed { font-weight: bold }
@media print { body { margin: 0; max-width: none } tr { break-inside: avoid } }
"""


def timeline_page(account: dict[str, Any]) -> str:
    """Give the page (HTML). It shows the account's own words; the JSON file beside it is what can be verified."""
    subject = account["subject"]
    title = f"Account of {subject['kind']} {subject['name']}"
    checkpoint = parse_checkpoint(parse_note(account["checkpoint"].encode()).text)
    treated = [entry for entry in account["exposures"] if entry["exposed"]]
    records = account["records"]
    proven = sum("entry" in row for row in records)
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
            f"<p>Drawn up on {escape(moment_text(account['made_ms']))} from the control plane's log",
            f" ({account['log_events']:,} events) and its ledger ({checkpoint.size:,} entries). All times are UTC, by",
            " the control plane's clock.</p>",
            f"<p>{counted(len(treated), 'exposure')} and",
            f" {counted(len(account['exposures']) - len(treated), 'placebo run')} are on record. A device counts as",
            " exposed from the moment at which it was given leave to apply the release. A placebo run goes through",
            " the same steps and changes nothing.</p>",
            "<h2>Exposures</h2>",
            _exposures(account["exposures"]),
            "<h2>What happened, in order</h2>",
            _records(records),
            "<h2>How far this can be relied on</h2>",
            _reliance(account, proven, len(records)),
            "</body></html>\n",
        ]
    )


def _exposures(exposures: list[dict[str, Any]]) -> str:
    if not exposures:
        return "<p>None: nothing was applied.</p>"
    head = "<tr><th>device</th><th>from</th><th>rollout, release</th><th>as</th><th>how it ended</th></tr>"
    rows: list[str] = []
    for entry in exposures:
        kind = "exposed" if entry["exposed"] else "placebo"
        ended = f", {moment_text(entry['ended_ms'])}" if entry["ended_ms"] else ""
        rows.append(
            f"<tr class={kind}><td class=n>{escape(str(entry['device_id'] or entry['device']))}</td>"
            f"<td>{escape(moment_text(entry['leased_ms']))}</td>"
            f"<td class=n>{escape(str(entry['rollout']))}<br>{escape(str(entry['release'] or ''))}</td>"
            f"<td>{kind}</td><td>{escape(str(entry['outcome']))}{escape(ended)}</td></tr>"
        )
    return f"<table>{head}{''.join(rows)}</table>"


def _records(records: list[dict[str, Any]]) -> str:
    rows = [
        f"<tr><td>{escape(moment_text(row['at_ms']))}</td><td>{escape(row['sentence'])}</td>"
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
