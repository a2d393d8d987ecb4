"""Check `size`: the payload keeps within limits, and neither explodes nor collapses against the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidegate.core.wire import plain
from tidegate.gate.nearest import parting
from tidegate.gate.port import Say, Seen
from tidegate.gate.trial import Edition, Trial

MB = 1 << 20


class SizeCheck:
    """Bytes, files and items, absolute and against the baseline."""

    name = "size"
    question = "Is it of a size that devices can hold, and close to what they hold now?"
    order = 20
    needs: tuple[str, ...] = ()
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The payload, the baseline and the limits."""
        base = [edition.digest for edition in trial.baselines[:1]]
        return [self.name, trial.candidate.digest, base, plain(trial.settings.size)]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Compare sizes."""
        limits, payload = trial.settings.size, trial.candidate.manifest.payload
        seen.figures |= {"bytes": payload.unpacked, "files": payload.files}
        for sentence, file in beyond(trial):
            seen.fail(sentence, file=file)
        for edition in trial.baselines[:1]:
            pairs = [("bytes", payload.unpacked, edition.manifest.payload.unpacked)]
            if trial.interpreter is not None:
                pairs.append(("items", len(trial.sources), len(trial.sources_of(edition))))
            for what, now, before in pairs:
                ratio = now / before if before else 1.0
                seen.figures[f"{what} against {edition.title}"] = round(ratio, 3)
                name, change = _most_changed(trial, edition)
                most = f"; most of that in {name} ({change:+,} bytes)" if name else ""
                place: dict[str, Any] = {}
                if name and (trial.candidate.content / name).is_file():
                    line, byte = parting(edition.content / name, trial.candidate.content / name)
                    place = {"file": name, "line": line}
                    most += "" if line else f", from byte {byte:,} on"
                if ratio > limits.grow:
                    seen.fail(
                        f"it has {now:,} {what}, {ratio:.1f} times the {before:,} of {edition.title}{most}", **place
                    )
                elif ratio < limits.shrink:
                    seen.fail(
                        f"it has {now:,} {what}, and {edition.title} has {before:,}: too much of it is gone{most}",
                        **place,
                    )


def beyond(trial: Trial) -> list[tuple[str, str]]:
    """Give what is larger than devices can hold: (sentence, file of the payload, or "")."""
    limits, payload = trial.settings.size, trial.candidate.manifest.payload
    found: list[tuple[str, str]] = []
    if payload.unpacked > limits.payload_mb * MB:
        found.append((f"it unpacks to {payload.unpacked / MB:,.1f} MB, {limits.payload_mb} are allowed", ""))
    if payload.files > limits.files:
        found.append((f"it holds {payload.files:,} files, {limits.files:,} are allowed", ""))
    for name, size in sorted(_sizes(trial.candidate.content).items()):
        if size > limits.file_mb * MB:
            found.append((f"the file has {size / MB:,.1f} MB, {limits.file_mb} are allowed", name))
    return found


def _most_changed(trial: Trial, edition: Edition) -> tuple[str, int]:
    """Give the file whose bytes differ most from the baseline's, and by how many."""
    before, after = _sizes(edition.content), _sizes(trial.candidate.content)
    changes = {name: after.get(name, 0) - before.get(name, 0) for name in sorted({*before, *after})}
    name = max(changes, key=lambda each: abs(changes[each]), default="")
    return (name, changes[name]) if name and changes[name] else ("", 0)


def _sizes(root: Path) -> dict[str, int]:
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}
