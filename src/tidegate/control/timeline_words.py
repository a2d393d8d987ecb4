"""How one record of the ledger or the log reads to a person, and what a device's records add up to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def moment_text(at_ms: int) -> str:
    """Write a moment in UTC, to the millisecond."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03d} UTC"


def sentence_of(record: Json) -> str:
    """Give the sentence of a record; one of a kind that is not known here is named as such."""
    write = _SENTENCES.get(str(record.get("kind")))
    if write is None or "too_long_sha256" in record:
        return f"A record of kind {record.get('kind')} whose content is known by its digest alone."
    try:
        return write(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        return f"A record of kind {record.get('kind')} that does not have the fields it should."


def exposures_of(records: Iterable[Json]) -> list[Json]:
    """Give, for each lease among the records: who, in which rollout, which arm, from when, and how it ended."""
    names: dict[Any, Any] = {}
    candidates: dict[Any, Any] = {}
    found: dict[tuple[Any, Any, Any], Json] = {}
    for record in records:
        kind, index = record.get("kind"), record.get("index")
        key = (record.get("rollout"), index, record.get("ring"))
        if kind == "enrolled":
            names[index] = record.get("device_id")
        elif kind == "rollout":
            candidates[record.get("rollout")] = record.get("candidate")
        elif kind == "leased":
            found[key] = {
                "device": index,
                "device_id": names.get(index),
                "rollout": record.get("rollout"),
                "release": candidates.get(record.get("rollout")),
                "ring": record.get("ring"),
                "arm": record.get("arm"),
                "exposed": record.get("arm") == "treated",
                "ran_before": record.get("installed"),
                "leased_ms": record.get("at_ms"),
                "outcome": "no word",
                "ended_ms": None,
            }
        elif kind == "reported" and key in found:
            found[key] |= {"outcome": record.get("outcome"), "ended_ms": record.get("at_ms")}
    return list(found.values())


def _by(record: Json) -> str:
    return f" By {record['who']}" + (f": {record['why']}." if record["why"] else ", who gave no reason.")


def _labels(record: Json) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(record["labels"].items())) or "no labels"


def _leased(r: Json) -> str:
    which = f"Device {r['index']} was given a lease in ring {r['ring']} of rollout {r['rollout']}"
    late = ", as a late device" if r["late"] else ""
    if r["arm"] == "treated":
        before = f"it ran {r['installed']} before" if r["installed"] else "it ran nothing of this component before"
        return f"{which}{late}, and was exposed to the candidate from this moment; {before}."
    return f"{which}{late}, as placebo: nothing was changed on it."


def _reported(r: Json) -> str:
    said = {"confirmed": "was healthy through the whole soak", "reverted": "went back to its last known good"}
    note = f" It said: {r['note']}" if r["note"] else ""
    return f"Device {r['index']} reported for rollout {r['rollout']} that it {said[r['outcome']]}.{note}"


def _rollout(r: Json) -> str:
    budget = r["budget"]
    through = ""
    if r.get("evidence", {}).get("let_through"):
        through = (
            f" It was let through without evidence that the policy demands: {'; '.join(r['evidence']['missing'])}."
        )
    measures = " It is a shadow rollout, which changes nothing." if r["shadow"] else ""
    return (
        f"Rollout {r['rollout']} began: release {r['candidate']} of {r['component']} (sequence {r['seq']}) for"
        f" {r['devices']} devices; at most {budget['max_harmed']} may be harmed, with confidence"
        f" {budget['confidence']}; a device has {r['observe_s']} s to confirm.{measures}{through}{_by(r)}"
    )


def _verdict(r: Json) -> str:
    f = r["figures"]
    counts = (
        f"exposed {f['exposed']}, confirmed {f['confirmed']}, reverted {f['reverted']}, silent {f['silent']},"
        f" placebo {f['placebo']} of which failed {f['placebo_failed']}"
    )
    return f"Verdict on rollout {r['rollout']}: {r['verdict']}. {r['sentence'].capitalize()}. Taken on: {counts}."


def _act(r: Json) -> str:
    about = [f"device {r['index']}"] if "index" in r else []
    about += [f"rollout {r['rollout']}"] if "rollout" in r else []
    about += [f"component {r['component']}"] if "component" in r else []
    about += [f"release {r['seq']}, {r['digest']}"] if "digest" in r and "seq" in r else []
    about += [str(r["subject"])] if "subject" in r else []
    about += _objects(r) if r.get("v", 1) > 1 else []
    return f"{r['what'].replace('_', ' ').capitalize()}{' (' + ', '.join(about) + ')' if about else ''}.{_by(r)}"


def _objects(r: Json) -> list[str]:
    """Name what a later act was done to."""
    about = [f"operator {r['name']}"] if "name" in r else []
    about += [f"role {r['role']}"] if "role" in r else []
    about += [f"{name} {_value(value)}" for name, value in sorted(r.get("policy", {}).items())]
    about += [f"epoch {r['epoch']}"] if "epoch" in r else []
    about += [f"request {r['number']}"] if "number" in r else []
    about += [f"for a {r['asked']}: {r['reason']}"] if "asked" in r and "reason" in r else []
    about += [f"{r['title']}: {', '.join(r['roles'])}"] if "title" in r and "roles" in r else []
    about += [f"token {r['token_id']}"] if "token_id" in r else []
    about += [f"group {r['group']}"] if r.get("group") else []
    about += [f"{r['devices']} devices"] if "devices" in r else []
    return about


def _value(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


_SENTENCES: dict[str, Any] = {
    "leased": _leased,
    "reported": _reported,
    "rollout": _rollout,
    "verdict": _verdict,
    "act": _act,
    "enrolled": lambda r: f"Device {r['index']} was enrolled as {r['device_id']}, with {_labels(r)}.",
    "labelled": lambda r: f"Device {r['index']} was given the labels {_labels(r)}.{_by(r)}",
    "release": lambda r: (
        f"Release {r['digest']} of {r['component']} was accepted: version {r['version']}, sequence {r['seq']},"
        f" payload {r['payload_sha256']}.{_by(r)}"
    ),
    "budget": lambda r: (
        f"All releases of {r['component']} together may harm at most {r['max_harmed_30d']} devices in 30 days.{_by(r)}"
    ),
    "ring": lambda r: (
        f"Ring {r['ring']} of rollout {r['rollout']} closed: of {r['treated']} treated devices {r['treated_failed']}"
        f" failed, of {r['placebo']} placebo devices {r['placebo_failed']}; {r['late']} had not come."
    ),
    "evidence": lambda r: (
        f"An attestation ({r['predicate']}, {r['result']}) of release {r['release']} was handed in, with digest"
        f" {r['envelope']}.{_by(r)}"
    ),
    "plan": lambda r: f"Plan version {r['version']} of {r['component']} was signed for rollout {r['rollout']}.",
    "segment": lambda r: f"The digest of {r['events']} records of devices and plans was entered.",
}
