"""ClamAV releases through the gate: a good one passes, and defective ones are refused with check, file and line."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.cli.gate import Wanted, trial_of
from tidegate.gate import seccomp
from tidegate.gate.clam_names import alike
from tidegate.gate.jobs import Job, Limits
from tidegate.gate.pipeline import run_checks
from tidegate.gate.port import FAILED, WARNED, Result, choose, load_checks
from tidegate.gate.report import refusal
from tidegate.gate.sandbox import Sandbox
from tidegate.gate.settings import Corpora, Damage, Resources, Settings
from tidegate.gate.sources import Source
from tidegate.gate.switches import left_out, switched_off

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
CLAMAV = pytest.mark.skipif(not (shutil.which("clamscan") and shutil.which("clamd")), reason="ClamAV is not installed")
SETTINGS = Settings(
    corpus=Corpora(system=False), damage=Damage(variants=4, fuzz_s=0), resources=Resources(pairs=2, sample_mb=1)
)
MARKS = {"Tide.One": b"a mark of the first family", "Tide.Two": b"a mark of the second family"}
GOOD = [f"{name}:0:*:{mark.hex()}" for name, mark in MARKS.items()]


def content(place: Path, lines: list[str]) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "sig.ndb").write_text("\n".join(lines) + "\n")
    return place


def tried(
    place: Path, lines: list[str], *only: str, change: Callable[[bytes], bytes] = bytes
) -> tuple[set[str], list[str]]:
    """Put signatures through the gate (or some checks) against the good ones; give what failed, and what it says."""
    results = results_of(place, lines, *only, change=change)
    return {each.check for each in results if each.result == FAILED}, refusal(results)


def results_of(place: Path, lines: list[str], *only: str, change: Callable[[bytes], bytes] = bytes) -> list[Result]:
    for name, mark in MARKS.items():
        (place / "planted").mkdir(exist_ok=True)
        (place / "planted" / name).write_bytes(b"xx" + mark + b"xx")
    (place / "benign").mkdir()
    (place / "benign" / "letter.txt").write_text("an ordinary letter of this device\n")
    wanted = Wanted(
        SETTINGS,
        Path(),
        benign=(place / "benign",),
        planted=(place / "planted",),
        baselines=(content(place / "baseline", GOOD),),
        driver="clamav",
    )
    candidate = content(place / "candidate", lines)
    (candidate / "sig.ndb").write_bytes(change((candidate / "sig.ndb").read_bytes()))
    with trial_of(candidate, wanted) as trial:
        return run_checks(trial, choose(load_checks(), list(only), []))


@CLAMAV
def test_a_good_release_passes_in_clamscan_and_in_a_clamd_of_its_own(tmp_path: Path) -> None:
    failed, said = tried(tmp_path, [*GOOD, f"Tide.Three:0:*:{b'a mark of the third family'.hex()}"])
    assert failed == set(), said


@CLAMAV
@pytest.mark.parametrize(
    ("lines", "only", "says"),
    [
        ([*GOOD, "Tide.Three:0:*:zz11"], ("load",), "load: sig.ndb:3: ClamAV"),
        (
            [*GOOD, f"Tide.Three:0:*:{b'ordinary letter'.hex()}"],
            ("load", "benign"),
            "benign: sig.ndb:3: rule Tide.Three takes",
        ),
        (
            [GOOD[0], f"Tide.Two:0:*:{b'another mark'.hex()}"],
            ("load", "detections"),
            "detections: sig.ndb:2: a planted sample is not detected any more",
        ),
    ],
    ids=["not hexadecimal", "finds a letter", "blind"],
)  # fmt: skip
def test_a_defective_release_is_refused_with_its_line(
    tmp_path: Path, lines: list[str], only: tuple[str, ...], says: str
) -> None:
    failed, said = tried(tmp_path, lines, *only)
    assert failed == {only[-1]} and any(line.startswith(says) for line in said), said


@CLAMAV
@pytest.mark.parametrize(
    ("change", "only", "says"),
    [
        (lambda data: data[:-13], ("schema",), "schema: sig.ndb:2: the file ends within a line, as if it had been cut"),
        (lambda data: b"\xef\xbb\xbf" + data, ("schema",), "schema: sig.ndb:1: the file begins with a byte order mark"),
        (
            lambda data: data.replace(b"Tide.Two", b"Tide.Due"),
            ("load", "detections"),
            "detections: sig.ndb: 1 of the 2 rules of content baseline are gone, for they have other names (Tide.Two;",
        ),
    ],
    ids=["cut off, and taken", "a mark", "renamed"],
)  # fmt: skip
def test_what_clamav_takes_and_means_something_else_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], only: tuple[str, ...], says: str
) -> None:
    failed, said = tried(tmp_path, GOOD, *only, change=change)
    assert failed == {only[-1]} and said[0].startswith(says), said


@CLAMAV
@pytest.mark.parametrize(
    ("name", "text", "only", "says"),
    [
        ("x.cbc", "ClamBCafhm\n", ("load",), "load: x.cbc:1: "),
        (
            "a.yar",
            'rule letters { strings: $a = "ordinary letter" condition: $a }\n',
            ("load", "benign"),
            "benign: a.yar:1: rule letters takes the benign file",
        ),
        (
            "old.db",
            f"Tide.Old={b'ordinary letter'.hex()}\n",
            ("load", "benign"),
            "benign: old.db:1: rule Tide.Old takes",
        ),
    ],
)
def test_a_file_beside_the_signatures_is_named(
    tmp_path: Path, name: str, text: str, only: tuple[str, ...], says: str
) -> None:
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / name).write_text(text)
    failed, said = tried(tmp_path, GOOD, *only)
    assert failed == {only[-1]} and said[0].startswith(says), said


@CLAMAV
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("quiet.ign2", "Tide.Two\n", "Tide.Two in quiet.ign2 lets something through"),
        (
            "quiet.fp",
            f"{hashlib.md5(b'xx' + MARKS['Tide.Two'] + b'xx').hexdigest()}:31:letter\n",
            "letter in quiet.fp lets",
        ),
    ],
)
def test_a_list_that_lets_things_through_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / name).write_text(text)
    failed, said = tried(tmp_path, GOOD, "load", "detections")
    assert failed == {"detections"} and said[0].startswith(f"detections: {name}:1: ") and says in said[0], said


@CLAMAV
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("off.cfg", "PE:0x0:0:255\n", "detections: off.cfg:1: it turns PE of ClamAV off, as a whole; if that is meant"),
        (
            "kinds.ftm",
            "0:0:4d5a90:programs:CL_TYPE_ANY:CL_TYPE_IGNORED\n",
            "detections: kinds.ftm:1: ClamAV will not look into files that begin so: they count as CL_TYPE_IGNORED",
        ),
        (
            "later.ldb",
            f"Tide.Later;Engine:9000-9999,Target:0;0;{b'of a later engine'.hex()}\n",
            "detections: later.ldb:1: ClamAV leaves it out without a word: it is for engines of level 9000 to 9999",
        ),
    ],
)
def test_a_payload_that_turns_the_engine_off_is_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    """None of the samples here is a program, so that none is lost; devices would not look at programs any more."""
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / name).write_text(text)
    failed, said = tried(tmp_path, GOOD, "load", "detections")
    assert failed == {"detections"} and said[0].startswith(says), said


@CLAMAV
def test_a_name_that_stands_twice_is_warned_of_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "more.hdb").write_text(f"{'ab' * 16}:9:Tide.One\n{'cd' * 16}:9:Tide.Digest\n")
    (result,) = results_of(tmp_path, [*GOOD, f"Tide.Two:0:*:{b'another mark'.hex()}"], "schema")
    assert result.result == WARNED
    assert [(each.place, each.sentence.partition(":")[0]) for each in result.findings] == [
        ("sig.ndb:1", "signature Tide.One stands also in more.hdb"),
        ("sig.ndb:3", "signature Tide.Two stands also in sig.ndb"),
    ]
    assert "stands also in sig.ndb:2: ClamAV reports them all by one name" in result.findings[1].sentence


@CLAMAV
def test_each_of_those_with_one_name_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "candidate").mkdir()
    lines = [f"Tide.Twice;{level}Target:0;0;{b'of a later engine'.hex()}\n" for level in ("Engine:9000-9999,", "")]
    (tmp_path / "candidate" / "later.ldb").write_text("".join(lines))
    failed, said = tried(tmp_path, GOOD, "load", "detections")
    assert failed == {"detections"} and said[0].startswith("detections: later.ldb:1: ClamAV leaves it out"), said


def test_of_many_names_that_stand_twice_the_first_are_told() -> None:
    lists = [Source("a.cfg", "PE", 1, "PE:1"), Source("a.cfg", "PE", 2, "PE:2"), Source("a.yar", "N0", 1, "rule N0 {}")]
    names = [Source("a.ndb", f"N{at % 30}", at + 1, f"N{at % 30}:0:*:aa") for at in range(150)]
    told = alike([*lists, *names])
    assert [each.line for each, _ in told] == list(range(31, 51))
    assert "in a.ndb:1, a.ndb:61, a.ndb:91 and 1 more: " in told[0][1] and "; they look for the same" in told[0][1]
    assert ["other names" in says for _, says in told] == [False] * 19 + [True] and "; 10 other names" in told[-1][1]


def test_bits_that_a_switch_had_count() -> None:
    before = {"a.cfg:PE": Source("a.cfg", "PE", 1, "PE:0xf:0:255")}
    for text, says in (("PE:0xff:0:255", ""), ("PE:0x7:0:255", "off, in part"), ("PE:0:0:255", "off, as a whole"),
                       ("ELF:0x1:0:255", ""), ("ELF:0x0", "turns ELF"), ("PE", ""), ("PE:many:0", "")):  # fmt: skip
        found = switched_off([Source("a.cfg", text.split(":")[0], 1, text)], before)
        assert [says in said for _, said in found] == [True] * bool(says), text


def test_signatures_for_other_engines_are_told_in_each_format() -> None:
    texts = {"a.ndb": "N:0:*:aa:10:50", "a.ldb": "N;Engine:51-255,Target:0;0;aa", "a.hsb": "aa:1:N:300",
             "a.hdb": "aa:1:N", "b.ndb": "N:0:*:aa:10", "a.fp": "aa:1:N:1:99"}  # fmt: skip
    found = left_out([Source(file, "N", 1, text) for file, text in texts.items()], 216)
    assert [(each.file, says.partition("level ")[2].partition(",")[0]) for each, says in found] == [
        ("a.ndb", "10 to 50"), ("a.hsb", "from 300 on"), ("a.fp", "1 to 99")
    ]  # fmt: skip
    trusted = Source("a.crb", "N", 1, "N;1;aa;bb;cc;010001;1;1;1;0;ours")
    assert "signed with this certificate" in switched_off([trusted], {})[0][1]


@CLAMAV
@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('rule f { strings: $a = "xyz" condition: $b }', 2, 'it leaves the rule out: undefined string "$b"'),
        ("rule f { condition: uint32(0) == 0x464c457f }", 2, "yara rule contains no supported strings"),
    ],
)
def test_rules_that_clamav_leaves_out_in_silence_are_refused(tmp_path: Path, text: str, line: int, says: str) -> None:
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "more.yar").write_text(f"// rules\n{text}\n")
    failed, said = tried(tmp_path, GOOD, "load")
    assert failed == {"load"} and said[0].startswith(f"load: more.yar:{line}: ClamAV") and says in said[0], said


@CLAMAV
def test_a_digest_of_a_benign_file_is_refused_with_its_line(tmp_path: Path) -> None:
    letter = b"an ordinary letter of this device\n"
    (tmp_path / "candidate").mkdir()
    text = f"# digests\n{hashlib.md5(letter).hexdigest()}:{len(letter)}:Tide.Letter\n"
    (tmp_path / "candidate" / "digests.hdb").write_text(text)
    failed, said = tried(tmp_path, GOOD, "load", "benign")
    assert failed == {"benign"} and said[0].startswith("benign: digests.hdb:2: rule Tide.Letter takes"), said


def test_local_sockets_lead_to_ones_own_processes_and_nowhere_else(tmp_path: Path) -> None:
    name = f"tidegate-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
        abstract.bind("\0" + name)
        abstract.listen()
        named.bind(str(tmp_path / "s"))
        named.listen()
        code = f"""
import socket
server = socket.socket(socket.AF_UNIX); server.bind('/tmp/own'); server.listen()
socket.socket(socket.AF_UNIX).connect('/tmp/own'); print('own')
for family in range(64):
    if family != socket.AF_UNIX:
        try:
            socket.socket(family, socket.SOCK_DGRAM); print('ESCAPED', family)
        except PermissionError:
            pass
for place in ({chr(0) + name!r}, {str(tmp_path / "s")!r}):
    try:
        socket.socket(socket.AF_UNIX).connect(place); print('ESCAPED', place)
    except OSError as error:
        print(type(error).__name__)
"""
        words = (sys.executable, "-I", "-c", code)
        ran = Sandbox().run(Job(words, limits=Limits(memory_mb=256, cpu_s=10), local_sockets=True))
        assert ran.stdout.decode().split() == ["own", "ConnectionRefusedError", "FileNotFoundError"], ran
        without = Sandbox().run(Job(words, limits=Limits(memory_mb=256, cpu_s=10)))
        assert without.code == 1 and "PermissionError" in without.stderr


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_local_sockets_take_six_calls_off_the_list_alone(architecture: str) -> None:
    side = ("x86_64", "aarch64").index(architecture)
    plain, local = (
        {value for operation, _, _, value in struct.iter_unpack("=HBBI", code) if operation == 0x15}
        for code in (seccomp.bpf(architecture), seccomp.bpf(architecture, local_sockets=True))
    )
    names = ("connect", "bind", "listen", "accept", "accept4")
    assert plain - local == {seccomp.DENIED[name][side] for name in names} and local <= plain
