"""Release notes, made by comparing two contents rule by rule: what is new, has changed or is gone, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.gate.sources import Source

_ABOUT = re.compile(r'\b(?:description|desc)\s*=\s*"((?:\\.|[^"\\])*)"')
MOST_WORDS = 200


@dataclass(frozen=True, slots=True)
class Notes:
    """The differences, each {rule, file, line, about}; `files` that differ."""

    added: tuple[dict[str, Any], ...]
    changed: tuple[dict[str, Any], ...]
    removed: tuple[dict[str, Any], ...]
    files: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        counts = [f"{len(each)} {word}" for each, word in
                  ((self.added, "added"), (self.changed, "changed"), (self.removed, "removed")) if each]  # fmt: skip
        what = ", ".join(counts) or "no rule differs"
        return f"Rules: {what}; in {len(self.files)} file{'' if len(self.files) == 1 else 's'}."

    def plain(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        return {
            "sentence": self.sentence,
            "added": list(self.added),
            "changed": list(self.changed),
            "removed": list(self.removed),
            "files": list(self.files),
        }

    def text(self, title: str) -> str:
        """Write it as Markdown, for people."""
        lines = [f"# {title}", "", self.sentence, ""]
        for word, entries in (("New", self.added), ("Changed", self.changed), ("Gone", self.removed)):
            if entries:
                lines += [f"## {word}", ""]
                lines += [f"- `{e['rule']}` ({e['file']}:{e['line']}){': ' + e['about'] if e['about'] else ''}"
                          for e in entries]  # fmt: skip
                lines.append("")
        return "\n".join(lines)


def compare(before: Mapping[str, Source], after: Mapping[str, Source]) -> Notes:
    """Compare two contents, each {file:rule -> source}. A rule that only moved to another file has not changed."""
    old = {(s.name, s.text): s for s in before.values()}
    added = [key for key in after if key not in before and (after[key].name, after[key].text) not in old]
    new = {(s.name, s.text) for s in after.values()}
    removed = [key for key in before if key not in after and (before[key].name, before[key].text) not in new]
    changed = [key for key in after if key in before and after[key].text != before[key].text]
    # A rule that is gone here and new there under the same name has changed.
    moved = {after[key].name for key in added} & {before[key].name for key in removed}
    changed += [key for key in added if after[key].name in moved]
    added = [key for key in added if after[key].name not in moved]
    removed = [key for key in removed if before[key].name not in moved]
    files = sorted({after[k].file for k in (*added, *changed)} | {before[k].file for k in removed})

    def told(sources: Mapping[str, Source], keys: list[str]) -> tuple[dict[str, Any], ...]:
        return tuple(_entry(sources[key]) for key in sorted(keys))

    return Notes(told(after, added), told(after, changed), told(before, removed), tuple(files))


def _entry(source: Source) -> dict[str, Any]:
    about = _ABOUT.search(source.text)
    return {
        "rule": source.name,
        "file": source.file,
        "line": source.line,
        "about": about[1][:MOST_WORDS] if about else "",
    }
