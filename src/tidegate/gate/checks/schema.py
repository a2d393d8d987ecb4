"""Check `schema`: the payload is what its manifest says, and each record has the fields that its type declares (RCA-1).

A payload may bring `schema.json`: {"types": [{"name", "files", "fields", "separator", "kinds", "may_be_wild"}]}.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tidegate.gate.clam_names import alike
from tidegate.gate.port import Say, Seen
from tidegate.gate.records import SCHEMA, read_schema, records_of, schema_line
from tidegate.gate.sources import BINARY_BYTES, MOST_TEXT, YARA_SUFFIXES, Source, commented
from tidegate.gate.trial import Trial, digests
from tidegate.trust.payload import describe_payload

_MARKS = {
    codecs.BOM_UTF8: "a byte order mark",
    codecs.BOM_UTF16_LE: "the byte order mark of UTF-16",
    codecs.BOM_UTF16_BE: "the byte order mark of UTF-16",
}


_CURRENT = "{current}/"
_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")
MOST_PROGRAM = 1 << 20


class SchemaCheck:
    """Counts: files, bytes, fields, names."""

    name = "schema"
    question = "Is the content what the manifest and its own schema declare?"
    order = 10
    needs: tuple[str, ...] = ()
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The payload, the baseline's, and what the interpreter says that it supplies."""
        base = [edition.manifest.payload.sha256 for edition in trial.baselines[:1]]
        return [self.name, trial.candidate.digest, base, trial.interpreter_inputs()]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Compare what is declared with what is there."""
        payload = trial.candidate.manifest.payload
        found = describe_payload(trial.candidate.archive.read_bytes())
        if found != payload:
            seen.fail(
                f"the payload has {found.files} files of {found.unpacked} bytes, its manifest says"
                f" {payload.files} of {payload.unpacked}"
            )
        seen.figures |= {"files": found.files, "bytes": found.unpacked}
        self._programs(trial, seen)
        say(0.3, "fields")
        self._fields(trial, seen)
        if trial.interpreter is not None:
            say(0.7, "names")
            self._content(trial, seen)

    def _programs(self, trial: Trial, seen: Seen) -> None:
        """Shell programs of the payload as another system's editor leaves them: they run, and do something else."""
        manifest, root = trial.candidate.manifest, trial.candidate.content
        commands = (manifest.activate, manifest.deactivate, *(probe.command for probe in manifest.health.probes))
        for name, shell in sorted({found for command in commands for found in _own_programs(command)}):
            data = (root / name).read_bytes()[:MOST_PROGRAM] if (root / name).is_file() else b""
            if (shell or data.startswith(b"#!")) and b"\r\n" in data:
                line = data.count(b"\n", 0, data.index(b"\r\n")) + 1
                seen.fail("a line of a shell program ends with CR LF, and the CR counts as a letter of its last word",
                          file=name, line=line)  # fmt: skip

    def _fields(self, trial: Trial, seen: Seen) -> None:
        root = trial.candidate.content
        supplied = trial.interpreter.fields() if trial.interpreter is not None else {}
        for kind in read_schema(root):
            records = records_of(root, kind)
            seen.figures[f"records of {kind.name}"] = len(records)
            if not records:
                seen.fail(
                    f"type {kind.name} is declared for {kind.files}, and no such file holds a record",
                    file=SCHEMA,
                    line=schema_line(root, kind.name),
                )
            given = supplied.get(kind.name)
            if given is not None and given != kind.fields:
                seen.fail(
                    f"type {kind.name} declares {kind.fields} fields, and the interpreter supplies {given}",
                    file=SCHEMA,
                    line=schema_line(root, kind.name),
                )
            stands: dict[tuple[str, ...], str] = {}
            for record in records:
                whole = (record.name, *record.fields)
                if whole in stands:
                    place = {"file": record.file, "line": record.line, "rule": record.name}
                    seen.fail(f"the record is the same as the one in {stands[whole]}", **place)
                stands.setdefault(whole, f"{record.file}:{record.line}")
                if len(record.fields) != kind.fields:
                    seen.fail(
                        f"the record has {len(record.fields)} fields, type {kind.name} declares {kind.fields}",
                        file=record.file,
                        line=record.line,
                        rule=record.name,
                    )
                    continue
                for number, (value, wanted) in enumerate(zip(record.fields, kind.kinds, strict=False), start=1):
                    if not kind.fits(value, wanted):
                        seen.fail(
                            f"field {number} is {value[:40]!r}, type {kind.name} declares {wanted}",
                            file=record.file,
                            line=record.line,
                            rule=record.name,
                        )

    def _content(self, trial: Trial, seen: Seen) -> None:
        root, names = trial.candidate.content, list(trial.content_digests)
        if not names:
            seen.fail("the payload holds nothing that its interpreter reads")
        items = trial.sources
        seen.figures["items"] = len(items)
        holds = {item.file for item in items.values()}
        for name in names:
            data = (root / name).read_bytes()
            if not data.strip(b" \t\r\n\0"):
                seen.fail("the file is empty, or zeros alone", file=name)
            elif wrong := _text_fault(data, name in holds, rules=name.lower().endswith(YARA_SUFFIXES)):
                seen.fail(wrong[0], file=name, line=wrong[1])
        self._cut_off(trial, seen)
        self._unread(trial, seen)
        self._twice(trial, seen)

    def _cut_off(self, trial: Trial, seen: Seen) -> None:
        """Lists that end within a line: the last item may be half of what it was, and still be taken."""
        for name in trial.content_digests:
            tail = _last_line(trial.candidate.content / name)
            if name.lower().endswith(YARA_SUFFIXES) or tail is None:
                continue
            line, text = tail
            before = [_last_line(edition.content / name) for edition in trial.baselines[:1]]
            if before and before[0] is not None and before[0][1] == text:
                continue  # it has always ended so
            say = seen.fail if before and (trial.baselines[0].content / name).is_file() else seen.warn
            say("the file ends within a line, as if it had been cut off; end the last line", file=name, line=line)

    def _unread(self, trial: Trial, seen: Seen) -> None:
        """Content of the baseline's that came along under a name that its interpreter does not read."""
        interpreter, root = trial.need_interpreter(), trial.candidate.content
        read = set(trial.content_digests)
        for edition in trial.baselines[:1]:
            before = digests(edition.content, interpreter.content_files(edition.content))
            gone = {digest: name for name, digest in before.items() if name not in read}
            others = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
            for name, digest in digests(root, [name for name in others if name not in read]).items():
                if digest in gone:
                    seen.fail(
                        f"the file is {gone[digest]} of {edition.title}, and {interpreter.name} does not read it under"
                        " this name",
                        file=name,
                    )

    def _twice(self, trial: Trial, seen: Seen) -> None:
        """The same name twice is two detections under one name: a new one fails, an old one is a warning.

        In ClamAV's files, where lists of digests under one name are common, each is a warning.
        """
        interpreter = trial.need_interpreter()
        if interpreter.kind == "clamav":
            for source, says in alike(trial.sources.values()):
                seen.warn(says, file=source.file, line=source.line, rule=source.name)
        if interpreter.kind != "yara-x":
            return
        known: set[str] = set()
        before: set[str] = set()
        for edition in trial.baselines[:1]:
            before = set(trial.sources_of(edition))
            known = {name for name, found in _by_name(trial.sources_of(edition)).items() if len(found) > 1}
        for name, found in _by_name(trial.sources).items():
            if len(found) > 1:
                # It was there first where the baseline has it: the other one is at fault.
                first, *rest = sorted(found, key=lambda source: f"{source.file}:{name}" not in before)
                say = seen.warn if name in known else seen.fail
                for other in rest:
                    say(
                        f"rule {name} stands also in {first.file}:{first.line}",
                        file=other.file,
                        line=other.line,
                        rule=name,
                    )
        same = digests(trial.candidate.content, list(trial.content_digests))
        twins: dict[str, str] = {}
        for name, digest in same.items():
            if digest in twins:
                seen.warn(f"the file is the same as {twins[digest]}", file=name)
            twins.setdefault(digest, name)


def _own_programs(command: Sequence[str]) -> list[tuple[str, bool]]:
    """Give (file of the payload, whether a shell reads it) of a command's words."""
    before = ["", *(PurePosixPath(word).name for word in command)]
    return [
        (word.removeprefix(_CURRENT), before[number] in _SHELLS)
        for number, word in enumerate(command)
        if word.startswith(_CURRENT) and ".." not in word.split("/")
    ]


def _text_fault(data: bytes, holds_rules: bool, *, rules: bool) -> tuple[str, int] | None:
    """Give what is wrong with a content file as a text, and its line."""
    for start, what in _MARKS.items():
        if data.startswith(start):
            return f"the file begins with {what}; save it as UTF-8 without one", 1
    if not rules:
        return None
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        return "the file is text and holds a zero byte: what reads it may stop there", line
    if holds_rules or len(data) > MOST_TEXT:
        return None
    line = commented(data.decode(errors="replace"))
    return "the file declares no rule" + ("; what stands in comments is none" if line else ""), line


def _last_line(path: Path) -> tuple[int, bytes] | None:
    """Give number and text of a text file's last line if nothing ends it; None otherwise."""
    if not path.is_file() or path.stat().st_size > MOST_TEXT:
        return None
    data = path.read_bytes()
    if not data or data.endswith((b"\n", b"\r")) or b"\0" in data[:BINARY_BYTES]:
        return None
    return data.count(b"\n") + 1, data.rpartition(b"\n")[2]


def _by_name(sources: dict[str, Source]) -> dict[str, list[Source]]:
    found: dict[str, list[Source]] = {}
    for source in sources.values():
        found.setdefault(source.name, []).append(source)
    return found
