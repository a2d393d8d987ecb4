"""The gate's settings file (TOML): corpora, interpreters, limits. What it says wrongly is refused by name."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tidegate.core.errors import BadInput, NotFound
from tidegate.core.wire import read
from tidegate.gate.jobs import Limits


@dataclass(frozen=True, slots=True)
class Corpora:
    """What content is tried on: `benign` directories must give no detection, `planted` ones must.

    `system` adds this machine's own programs, up to `system_mb` MB of them, the same ones each time, and small files of
    the kinds that other systems have.
    """

    benign: tuple[str, ...] = ()
    planted: tuple[str, ...] = ()
    system: bool = True
    system_mb: int = 200
    file_mb: int = 64


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What one run in the sandbox may use; `file_cpu_s` is CPU that one file of a corpus may take, as on a device."""

    memory_mb: int = 2048
    cpu_s: int = 120
    wall_s: float = 300.0
    processes: int = 64
    disk_mb: int = 512
    file_cpu_s: int = 10


@dataclass(frozen=True, slots=True)
class Resources:
    """How much more than the baseline a candidate may use, as ratios, and how many pairs of runs to measure.

    Up to three times as many are measured where it is not clear, with this confidence, on which side of a limit it is.
    """

    load: float = 3.0
    scan: float = 1.5
    memory: float = 1.5
    pairs: int = 6
    sample_mb: int = 8
    confidence: float = 0.99


@dataclass(frozen=True, slots=True)
class Sizes:
    """Limits of a payload, and how much it may grow or shrink against the baseline (ratios of bytes and of rules)."""

    payload_mb: int = 512
    file_mb: int = 64
    files: int = 100_000
    grow: float = 3.0
    shrink: float = 0.5


@dataclass(frozen=True, slots=True)
class Detections:
    """Which rules may go with what they detect: those that `retired` names (patterns), and a share of all others."""

    retired: tuple[str, ...] = ()
    may_go: float = 0.05


@dataclass(frozen=True, slots=True)
class Damage:
    """How many damaged variants to try, and how long to fuzz where that is possible (0: not)."""

    variants: int = 60
    fuzz_s: int = 5
    each_s: int = 10


@dataclass(frozen=True, slots=True)
class Staging:
    """What a release must bring along so that a rollout can notice that something is wrong.

    `health_must_notice`: of the manifest's probes one at least must be unhealthy once it has been deactivated.
    """

    least_soak_s: int = 1
    least_steps: int = 2
    health_must_notice: bool = True


@dataclass(frozen=True, slots=True)
class InterpreterSettings:
    """One interpreter that the fleet runs.

    `kind` yara-x: `python` names another environment's interpreter that has another version of it. clamav: the
    installed one. command: programs of your own; `{payload}` and `{files}` (a file with one path a line) are filled in;
    `load` must end with 0, `scan` must print `SAMPLE<tab>RULE` a match, `describe` one `TYPE<tab>FIELDS` a line,
    `version` its version. `fuzz` is MODULE:FUNCTION, a Python function of bytes that must end in good order, below one
    of the places in `read`; `files` are patterns of what it reads of a payload; `read` names what
    it needs to read besides the system.
    """

    kind: str
    driver: str
    name: str = ""
    python: str = ""
    load: tuple[str, ...] = ()
    scan: tuple[str, ...] = ()
    describe: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    fuzz: str = ""
    files: tuple[str, ...] = ("*",)
    read: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("yara-x", "clamav", "command"):
            raise ValueError(f"kind must be yara-x, clamav or command, not {self.kind!r}")
        if self.kind == "command" and not self.load:
            raise ValueError("an interpreter of kind command needs load")


@dataclass(frozen=True, slots=True)
class Validator:
    """The vendor's own validator: a program that must refuse what the interpreter refuses."""

    command: tuple[str, ...]
    read: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. `driver` are a device's settings for the component, as the life-cycle checks give them to the driver;
    `device` is a directory with a device's own files, of which these checks put a copy at `/tmp/watch`; `read` are
    further places that they need. `missing_interpreter`: fail or warn where the fleet runs a version
    that is not at hand. `without_interpreter`: drivers whose payload nothing interprets."""

    corpus: Corpora = Corpora()
    limits: RunLimits = RunLimits()
    resources: Resources = Resources()
    size: Sizes = Sizes()
    detections: Detections = Detections()
    damage: Damage = Damage()
    staging: Staging = Staging()
    interpreter: tuple[InterpreterSettings, ...] = ()
    validator: Validator | None = None
    driver: dict[str, str] | None = None
    device: str = ""
    read: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("os", "version", "hardware", "locale")
    version_fact: str = "yara_x"
    missing_interpreter: str = "fail"
    without_interpreter: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.missing_interpreter not in ("fail", "warn"):
            raise ValueError("missing_interpreter must be fail or warn")

    def job_limits(self) -> Limits:
        """Give the limits of an ordinary run."""
        own = self.limits
        return Limits(own.memory_mb, own.cpu_s, own.wall_s, own.processes, own.disk_mb, own.disk_mb)


def read_settings(path: Path | None) -> Settings:
    """Read a settings file; none gives the defaults. Raises NotFound, or BadInput naming the key at fault."""
    if path is None:
        return Settings()
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"the gate's settings are not there: {path}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the gate's settings {path} cannot be read: {error}") from None
    settings = read(Settings, value, str(path))
    for name in (*settings.corpus.benign, *settings.corpus.planted):
        if not (path.parent / name).is_dir():
            raise NotFound(f"{path} names a corpus {name}, which is no directory")
    return settings
