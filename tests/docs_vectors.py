"""The protocol's test vectors, made by a second reading of docs/protocol.md that uses hashlib and nothing of ours.

`python -m tests.docs_vectors` writes docs/vectors anew; tests/unit/test_docs_vectors.py holds the code against them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parents[1] / "docs" / "vectors"
MASK, ONE = (1 << 64) - 1, 1 << 32


def by_the_book_text(value: object) -> bytes:
    """Canonical JSON, written out by hand but for the texts."""
    if isinstance(value, dict):
        parts = (by_the_book_text(key) + b":" + by_the_book_text(value[key]) for key in sorted(value))
        return b"{" + b",".join(parts) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(by_the_book_text, value)) + b"]"
    return json.dumps(value, ensure_ascii=False).encode()


def by_the_book_hash64(salt: str, key: int) -> int:
    """SplitMix64's finaliser twice, under the halves of the salt."""
    word = key
    for half in (salt[:16], salt[16:]):
        word ^= int(half, 16)
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & MASK
        word = (word ^ word >> 27) * 0x94D049BB133111EB & MASK
        word ^= word >> 31
    return word


def by_the_book_speed(limit: dict[str, Any], rank: int, wall_s: int, high_water_s: int) -> dict[str, Any]:
    age = wall_s - limit["logged"] - limit["clock_slack_s"]
    least = min(ONE, (limit["least_devices"] * ONE + limit["fleet_devices"] - 1) // limit["fleet_devices"])
    stepped = 0
    for seconds, share in limit["steps"]:
        stepped = share if seconds <= age else stepped
    share = min(limit["ceiling_2p32"], max(stepped, least)) if age >= 0 else 0
    clock_ok = wall_s >= high_water_s - 600 and wall_s <= limit["not_after"]
    return {
        "rank": f"{rank:016x}",
        "wall_s": wall_s,
        "high_water_s": high_water_s,
        "age_s": age,
        "share_2p32": share,
        "permitted": clock_ok and rank < share * ONE,
    }


def by_the_book_rings(ids: list[str], order_salt: str, secret: str, rollout: str, sizes: list[list[int]]) -> list[Any]:
    """Rings as sets of device ids; `sizes` are (treated, placebo) of each."""
    key = {name: int(hashlib.sha256(bytes.fromhex(name)).hexdigest()[:16], 16) for name in ids}
    order = sorted(ids, key=lambda name: by_the_book_hash64(order_salt, key[name]))
    heads: list[str] = []
    taken, rings = 0, []
    for number, (treated, placebo) in enumerate(sizes, start=1):
        message = f"tidegate/arm/v1/{rollout}/{number}".encode()
        salt = hmac.new(bytes.fromhex(secret), message, hashlib.sha256).hexdigest()[:32]
        fresh = treated + placebo - len(heads)
        members, taken = heads + order[taken : taken + fresh], taken + fresh
        members = sorted(members, key=lambda name: by_the_book_hash64(salt, key[name]))
        heads = members[treated:]
        last = MASK if taken == len(ids) else by_the_book_hash64(order_salt, key[order[taken - 1]])
        rings.append(
            {
                "arm_salt": salt,
                "arm_commit": hashlib.sha256(b"tidegate/arm-commit/v1/" + bytes.fromhex(salt)).hexdigest(),
                "announce_rank": f"{last:016x}",
                "treated": sorted(members[:treated]),
                "placebo": sorted(heads),
            }
        )
    return rings


def by_the_book_tar(files: dict[str, str], executable: list[str]) -> bytes:
    """POSIX ustar: one header of 512 bytes a file, no owner, no date; zeros up to a multiple of 10,240."""
    blocks: list[bytes] = []
    for name in sorted(files):
        data = files[name].encode()
        mode = b"0000755\0" if name in executable else b"0000644\0"
        head = name.encode().ljust(100, b"\0") + mode + b"0000000\0" * 2 + b"%011o\0" % len(data) + b"00000000000\0"
        tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(64 + 16 + 167)
        checksum = b"%06o\0 " % (sum(head) + sum(tail) + 8 * 32)
        blocks += [head + checksum + tail, data + bytes(-len(data) % 512)]
    archive = b"".join(blocks) + bytes(1024)
    return archive + bytes(-len(archive) % 10_240)


PLAN: dict[str, Any] = {
    "rollout": "edr-rules-55fd3c",
    "component": "edr-rules",
    "ring": 1,
    "state": "open",
    "candidate": {"path": "releases/edr-rules/2.json", "sha256": "3c" * 32, "length": 437, "seq": 2},
    "replaces": ["any", "absent"],
    "announce_rank": "68e971a2fa92537b",
    "scouts": ["f000000000000001"],
    "late_open": False,
    "arm_commit": "f2" * 32,
    "observe_s": 10,
    "lease_ttl_s": 60,
    "spread_s": 0,
    "issued": 1795492071,
    "expires": 1795492971,
    "v": 1,
}
MANIFEST: dict[str, Any] = {
    "component": "edr-rules",
    "version": "2026.2",
    "seq": 2,
    "driver": "yara",
    "payload": {"sha256": "48" * 32, "length": 30720, "files": 11, "unpacked": 19338},
    "health": {
        "soak_s": 300,
        "interval_s": 5,
        "after_restart": False,
        "probes": [{"name": "check-in desk", "command": ["sh", "{watch}/checkin"], "timeout_s": 10}],
    },
    "replaces": ["any", "absent"],
    "activate": [],
    "deactivate": [],
    "notes": 'for "Zürich" – 雨\n',
    "v": 1,
}
WRONG_PLANS: list[tuple[str, dict[str, Any]]] = [
    ("lives longer than 1800 s", {"expires": PLAN["issued"] + 1801}),
    ("expires when it is issued", {"expires": PLAN["issued"]}),
    ("an unknown version", {"v": 2}),
    ("a field that is not known", {"more": 1}),
    ("a rank in capitals", {"announce_rank": "68E971A2FA92537B"}),
    ("a rank as a number", {"announce_rank": 7}),
    ("an unknown state", {"state": "ajar"}),
    ("a whole number as a float", {"observe_s": 10.0}),
    ("a truth value as a number", {"ring": True}),
    ("a number that does not fit", {"observe_s": 1 << 63}),
    ("a digest that is none", {"candidate": {**PLAN["candidate"], "sha256": "3c"}}),
]
LIMIT = {
    "steps": [[0, 4294967], [3600, 42949673], [14400, 429496730], [86400, ONE]],
    "logged": 1_800_000_000,
    "not_after": 1_800_604_800,
    "ceiling_2p32": ONE // 2,
    "dwell_s": 3600,
    "clock_slack_s": 120,
    "least_devices": 16,
    "fleet_devices": 5000,
}
LEAST = 16 * ONE // 5000 + 1
IDS = [hashlib.sha256(b"device %d" % number).hexdigest()[:32] for number in range(12)]
RINGS: dict[str, Any] = {
    "order_salt": "00112233445566778899aabbccddeeff",
    "arm_secret": bytes(range(32)).hex(),
    "rollout": "edr-rules-000001",
    "placebo_per_treated": 1.0,
    "devices": IDS,
}
SIZES = [[3, 3], [3, 3], [6, 0]]
FILES = {"LICENSE": "ours\n", "rules/a.yar": "rule a { condition: false }\n", "rules/run.sh": "#!/bin/sh\n"}
NAMES_REFUSED = ["../a", "/a", "a//b", "a/./b", "a\\b", "con", "nul.txt", "a.", "a ", "a:b", "a\u0001", "x" * 256]
NAMES_REFUSED_TOGETHER = [["a", "A"], ["a", "a/b"], ["\u00e9", "e\u0301"]]


def documents() -> dict[str, dict[str, Any]]:
    """Give each file's content, from the second reading."""
    start, logged = LIMIT["logged"] + LIMIT["clock_slack_s"], LIMIT["logged"]
    cases = [
        (0, start - 1, 0),
        (LEAST * ONE - 1, start, 0),
        (LEAST * ONE, start, 0),
        (42949673 * ONE - 1, start + 3599, 0),
        (42949673 * ONE - 1, start + 3600, 0),
        (42949673 * ONE, start + 3600, 0),
        (ONE // 2 * ONE - 1, start + 86400, 0),
        (ONE // 2 * ONE, start + 86400, 0),
        (0, LIMIT["not_after"], 0),
        (0, LIMIT["not_after"] + 1, 0),
        (0, start + 10, start + 610),
        (0, start + 10, start + 611),
        (MASK, logged, 0),
    ]
    token = "tg1." + "ab" * 32 + "." + "01" * 8 + "." + "cd" * 32
    archive = by_the_book_tar(FILES, ["rules/run.sh"])
    text = by_the_book_text(MANIFEST)
    return {
        "manifest.json": {
            "about": "A manifest, its canonical JSON and the release's digest. docs/protocol.md, 'Canonical JSON'.",
            "manifest": MANIFEST,
            "text": text.decode(),
            "length": len(text),
            "sha256": hashlib.sha256(text).hexdigest(),
        },
        "plan.json": {
            "about": "A plan that holds, ranks that it lets announce, and changes that make it be refused whole.",
            "plan": PLAN,
            "text": by_the_book_text(PLAN).decode(),
            "announces": {
                "0" * 16: True,
                "68e971a2fa92537b": True,
                "68e971a2fa92537c": False,
                "f000000000000001": True,
                "f" * 16: False,
            },
            "refused": [{"why": why, "change": change} for why, change in WRONG_PLANS],
        },
        "speed.json": {
            "about": "A speed limit and what it lets devices do. docs/protocol.md, 'The speed limit'.",
            "speed": LIMIT,
            "cases": [by_the_book_speed(LIMIT, *case) for case in cases],
        },
        "rings.json": {
            "about": "The rings of a roster: who is treated and who placebo. Agents need none of it; auditors do.",
            **RINGS,
            "rings": by_the_book_rings(IDS, RINGS["order_salt"], RINGS["arm_secret"], RINGS["rollout"], SIZES),
        },
        "payload.json": {
            "about": "These files pack to this archive; an archive with one of the names below is refused.",
            "files": FILES,
            "executable": ["rules/run.sh"],
            "payload": {
                "sha256": hashlib.sha256(archive).hexdigest(),
                "length": len(archive),
                "files": len(FILES),
                "unpacked": sum(len(text.encode()) for text in FILES.values()),
            },
            "names_refused": NAMES_REFUSED,
            "names_refused_together": NAMES_REFUSED_TOGETHER,
        },
        "token.json": {
            "about": "An enrolment token, tg1.<SHA-256 of the root file>.<id>.<secret>, and what the log keeps of it.",
            "token": token,
            "root_sha256": "ab" * 32,
            "token_id": "01" * 8,
            "log_hash": hashlib.sha256(b"tidegate/token/v1." + token.encode()).hexdigest(),
        },
    }


if __name__ == "__main__":
    for file, content in documents().items():
        (VECTORS / file).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
