"""Operators' routes for evidence: take an attestation in, show what a release has, and hold it against the policy."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.reading import body_of, who_of
from tidegate.control import acts
from tidegate.control.state import Release
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.trust.evidence_policy import Judged, judge
from tidegate.trust.evidence_store import EvidenceStore
from tidegate.trust.statement import parse_statement


def _release(request: Request) -> Release:
    state = request.app.state.office.controller.state
    digest = request.path_params["digest"]
    if digest not in state.releases:
        raise NotFound(f"there is no release {digest[:16]} in the log; sign and submit it first")
    return state.releases[digest]


def _store(request: Request) -> EvidenceStore:
    store: EvidenceStore | None = request.app.state.office.evidence
    if store is None:
        raise Refused("this control plane keeps no evidence")
    return store


async def submit(request: Request) -> Response:
    """Keep a signed attestation of a release, and put it on record; safe to repeat."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    data = body.pop("envelope", None)
    if not isinstance(data, str) or body:
        raise BadInput("the request must hold an envelope, as text, and nothing else")
    release = _release(request)
    envelope, said, _ = await asyncio.to_thread(_store(request).add, release.digest, data.encode())
    news = await office.controller.ask(
        lambda state, now_ms: acts.log_evidence(
            state,
            now_ms,
            by,
            release=release.digest,
            envelope=envelope.digest,
            predicate=said.short,
            result=said.result,
            checks=sorted(said.checks),
            keyids=sorted(envelope.signatures),
        )
    )
    return JSONResponse({"release": release.digest, "envelope": envelope.digest, "news": news}, 201)


async def listing(request: Request) -> Response:
    """Show a release's attestations, and what the policy says of them."""
    release, store = _release(request), _store(request)
    found = await asyncio.to_thread(store.of, release.digest)
    shown: list[dict[str, Any]] = []
    for each in found:
        said = parse_statement(each)
        keys, checks = sorted(each.signatures), sorted(said.checks)
        entry = {"envelope": each.digest, "predicate": said.short, "result": said.result, "at_s": said.at_s}
        shown.append({**entry, "keys": keys, "checks": checks, "text": each.data().decode()})
    judged = await asyncio.to_thread(_judged, store, release)
    policy = {"demanded": judged is not None, "missing": list(judged[0].missing) if judged else []}
    return JSONResponse({"release": release.digest, "evidence": shown, "policy": policy})


def _judged(store: EvidenceStore, release: Release) -> tuple[Judged, str, bool] | None:
    found = store.policy()
    if found is None:
        return None
    policy, digest = found
    judged = judge(policy, release.manifest.component, release.digest, store.of(release.digest), time.time())
    return judged, digest, policy.let_through


async def demand(store: EvidenceStore | None, release: Release, let_through: bool, why: str) -> dict[str, Any] | None:
    """Refuse a start without the evidence that the policy demands; give what is to stand on record.

    Raises:
        Refused: naming what is missing.
        BadInput: for a policy that cannot be read, or a release let through without a reason.
    """
    judged = await asyncio.to_thread(_judged, store, release) if store is not None else None
    if judged is None:
        return None
    found, digest, may = judged
    record: dict[str, Any] = {"policy_sha256": digest, "envelopes": list(found.counted)}
    if found.met:
        return record
    missing = "; ".join(found.missing)
    if not let_through:
        raise Refused(f"the policy demands evidence that release {release.digest[:16]} has not: {missing}")
    if not may:
        raise Refused(f"the policy lets nothing through without its evidence: {missing}")
    if not why:
        raise BadInput("say why a release without its evidence is let through (--why)")
    return {**record, "let_through": True, "missing": list(found.missing)}


ROUTES = [
    Route("/api/v1/releases/{digest}/evidence", listing),
    Route("/api/v1/releases/{digest}/evidence", submit, methods=["POST"]),
]
