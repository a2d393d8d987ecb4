"""One release on trial: its content unpacked, what it is compared with, what it is tried on and in."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput, TidegateError
from tidegate.core.model import Manifest
from tidegate.gate.cache import Cache
from tidegate.gate.compiled import Compiled
from tidegate.gate.corpus import Corpus, directory_corpus, system_corpus
from tidegate.gate.damage import Variant, contents
from tidegate.gate.engine_clamav import ClamavInterpreter
from tidegate.gate.engine_command import CommandInterpreter
from tidegate.gate.engine_yara import YaraInterpreter
from tidegate.gate.interpreters import Interpreter, Loaded, Runner
from tidegate.gate.ordinary import ordinary_corpus
from tidegate.gate.planting import planted_corpus
from tidegate.gate.sandbox import Sandbox
from tidegate.gate.settings import Settings
from tidegate.gate.sources import Source, read_sources, words_of
from tidegate.gate.unpleasant import unpleasant
from tidegate.trust.payload import unpack_payload, verify_payload

LEAST_LOAD_S = 10


@dataclass(frozen=True, slots=True)
class Edition:
    """A release as it lies unpacked: its manifest, digest, archive and content."""

    manifest: Manifest
    digest: str
    archive: Path
    content: Path
    signed: Path | None = None
    """Its signed list of releases, where it is signed already."""

    @property
    def title(self) -> str:
        """What reports call it."""
        return f"{self.manifest.component} {self.manifest.version}"


def unpack_edition(manifest: Manifest, digest: str, archive: Path, work: Path, signed: Path | None = None) -> Edition:
    """Unpack a release with the distrust that a device has. Raises as `unpack_payload` does."""
    verify_payload(archive, manifest.payload)
    content = work / digest
    if not content.exists():
        unpack_payload(archive, content, manifest.payload)
    return Edition(manifest, digest, archive, content, signed)


@dataclass
class Trial:
    """All that checks look at. `baselines`: what the fleet runs now, the most common first."""

    candidate: Edition
    baselines: Sequence[Edition]
    settings: Settings
    base: Path
    """Relative places of the settings lie below it."""
    work: Path
    cache: Cache
    sandbox: Sandbox
    jobs: int = 2
    benign: Sequence[Path] = ()
    planted: Sequence[Path] = ()
    inventory: Sequence[Mapping[str, Any]] = ()
    """Devices: {labels: {...}, facts: {...}}."""
    results: dict[str, str] = field(default_factory=lambda: {})
    """What checks have said so far, by name."""
    guilty: dict[str, Any] = field(default_factory=lambda: {})
    """The place of the change that content explodes at, once it has been found."""
    tracing: threading.RLock = field(default_factory=threading.RLock)
    """Held while a change is looked for, so that two checks do not look for the same one."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _compiling: threading.RLock = field(default_factory=threading.RLock)
    _planting: threading.RLock = field(default_factory=threading.RLock)
    _reading: threading.RLock = field(default_factory=threading.RLock)
    _sources: dict[str, dict[str, Source]] = field(default_factory=lambda: {})
    _loaded: dict[str, Loaded] = field(default_factory=lambda: {})

    @cached_property
    def runner(self) -> Runner:
        """The sandbox with the settings' limits and as many slots as there are to be jobs."""
        limits, each = self.settings.job_limits(), self.settings.limits.file_cpu_s
        cores, others = threading.Semaphore(self.jobs), threading.Semaphore(self.jobs + 1)
        return Runner(self.sandbox, limits, each, self.jobs, cores, others)

    @cached_property
    def compiled(self) -> Compiled:
        """Rules as they were compiled before."""
        return Compiled(self.cache, self.work / "compiled")

    @cached_property
    def interpreters(self) -> list[Interpreter]:
        """What reads this driver's payloads: those of the settings, else the one that is installed. May be none."""
        driver = self.candidate.manifest.driver
        found: list[Interpreter] = []
        for each in self.settings.interpreter:
            if each.driver != driver:
                continue
            if each.kind == "yara-x":
                python = str((self.base / each.python).absolute()) if "/" in each.python else each.python
                found.append(YaraInterpreter(self.runner, python, each.name, self.compiled))
            elif each.kind == "clamav":
                found.append(ClamavInterpreter(self.runner, each.name))
            else:
                found.append(CommandInterpreter(self.runner, each, self.base))
        if driver == "yara" and not any(isinstance(e, YaraInterpreter) and e.own for e in found):
            found.insert(0, YaraInterpreter(self.runner, compiled=self.compiled))
        if driver == "clamav" and not found:
            found.append(ClamavInterpreter(self.runner))
        return found

    @cached_property
    def interpreter(self) -> Interpreter | None:
        """The one that all checks but `load` use: the first that is to be had."""
        for each in self.interpreters:
            try:
                each.version()
            except TidegateError:
                continue
            return each
        return self.interpreters[0] if self.interpreters else None

    def need_interpreter(self) -> Interpreter:
        """Give it. Raises BadInput if there is none."""
        if self.interpreter is None:
            driver = self.candidate.manifest.driver
            raise BadInput(f"no interpreter is known for payloads of driver {driver}")
        return self.interpreter

    @cached_property
    def _interpreter_inputs(self) -> list[Any]:
        found = self.interpreter
        return [found.kind, found.name, found.fingerprint(), str(self.settings.limits)] if found else []

    def interpreter_inputs(self) -> list[Any]:
        """Name the interpreter, for the reuse of answers."""
        return self._interpreter_inputs

    def loaded(self, edition: Edition) -> Loaded:
        """Give how the first interpreter takes an edition; it is asked once."""
        with self._compiling:
            known = self._loaded.get(edition.digest)
            if known is None:
                within_s = self.load_bound_s() if edition is self.candidate else 0
                known = self._loaded[edition.digest] = self.need_interpreter().load(edition.content, within_s)
                if known.ok and known.cpu_s:
                    self.cache.put(self._load_key(edition), float(known.cpu_s))
            return known

    def load_bound_s(self) -> int:
        """Give the CPU seconds after which loading the candidate is ended: far more than it may take against the
        baseline. 0: the settings' limit alone, for there is nothing to compare with."""
        if not self.baselines:
            return 0
        cost = self.cache.get(self._load_key(self.baselines[0]))
        if not isinstance(cost, float):
            before = self.loaded(self.baselines[0])
            cost = before.cpu_s if before.ok else 0.0
        return max(LEAST_LOAD_S, math.ceil(2 * max(self.settings.resources.load, 5) * cost)) if cost else 0

    def _load_key(self, edition: Edition) -> list[Any]:
        return ["CPU to load", edition.digest, self.interpreter_inputs()]

    def compile(self, edition: Edition) -> Path | None:
        """Give an edition's rules as the first interpreter has compiled them; they are compiled once. None: it does not
        keep them, or does not take them."""
        with self._compiling:
            found = self.interpreter
            if not isinstance(found, YaraInterpreter):
                return None
            if (path := found.kept(edition.content)) is None and self.loaded(edition).ok:
                path = found.kept(edition.content)
            return path

    @cached_property
    def content_digests(self) -> dict[str, str]:
        """SHA-256 of each file that the interpreter reads, by its name in the payload."""
        return digests(self.candidate.content, self.need_interpreter().content_files(self.candidate.content))

    @cached_property
    def benign_corpora(self) -> list[Corpus]:
        """What must give no detection."""
        own = self.settings.corpus
        places = [*(self.base / name for name in own.benign), *self.benign]
        found = [
            directory_corpus(f"benign {place.name}", place.resolve(), f"/corpus/{number}", own.file_mb)
            for number, place in enumerate(places)
        ]
        if own.system and own.system_mb:
            found += [system_corpus(own.system_mb, own.file_mb), ordinary_corpus(self.work / "ordinary")]
        return found

    @cached_property
    def planted_corpora(self) -> list[Corpus]:
        """Samples of the user's that must be detected."""
        own = self.settings.corpus
        places = [*(self.base / name for name in own.planted), *self.planted]
        return [
            directory_corpus(f"planted {place.name}", place.resolve(), f"/planted/{number}", own.file_mb)
            for number, place in enumerate(places)
        ]

    @property
    def sources(self) -> dict[str, Source]:
        """The candidate's items by `file` and name, with their lines."""
        return self.sources_of(self.candidate)

    def sources_of(self, edition: Edition) -> dict[str, Source]:
        """The same of any edition; each is read once."""
        with self._reading:
            if edition.digest not in self._sources:
                names = self.need_interpreter().content_files(edition.content)
                self._sources[edition.digest] = read_sources(edition.content, names)
            return self._sources[edition.digest]

    @cached_property
    def made_samples(self) -> Corpus:
        """Samples put together from the texts that rules look for, of the first baseline and of the candidate."""
        with self._planting:
            found: dict[str, Source] = {}
            for edition in (*self.baselines[:1], self.candidate):
                found |= {key: source for key, source in self.sources_of(edition).items() if key not in found}
            return planted_corpus(found, self.work / "made-samples")

    @property
    def damaged_place(self) -> Path:
        """Where the damaged variants of the content lie."""
        return self.work / "damaged"

    @cached_property
    def damaged(self) -> tuple[list[Variant], dict[str, Loaded]]:
        """Damaged variants of the content, and how the interpreter takes each."""
        with self._lock:
            interpreter, edition, own = self.need_interpreter(), self.candidate, self.settings.damage
            files = interpreter.content_files(edition.content)
            variants = contents(
                edition.content,
                files,
                self.sources,
                self.damaged_place,
                edition.digest,
                own.variants,
                alone=interpreter.separable,
            )
            names = [variant.name for variant in variants]
            return variants, interpreter.attempt(self.damaged_place, names, own.each_s) if names else {}

    @cached_property
    def unpleasant(self) -> Corpus:
        """Inputs that are hard on the interpreter."""
        with self._lock:
            words = [word for source in self.changed_sources().values() for word in words_of(source)]
            by_kind = self.need_interpreter().kind != "command"
            return unpleasant(self.work / "unpleasant", words[:400], by_kind=by_kind)

    def part_of(self, edition: Edition, names: Sequence[str]) -> Path:
        """Make a directory with some of an edition's files alone, under their names."""
        place = Path(tempfile.mkdtemp(prefix="part-", dir=self.work))
        place.chmod(0o755)
        for name in names:
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(edition.content / name, target)
        return place

    def changed_sources(self) -> dict[str, Source]:
        """Give the candidate's items that the first baseline has not, or not in these words."""
        if not self.baselines:
            return self.sources
        old = self.sources_of(self.baselines[0])
        return {k: s for k, s in self.sources.items() if k not in old or old[k].text != s.text}


def digests(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Give the SHA-256 of files below a directory, by name."""
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names}
