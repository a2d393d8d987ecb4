"""Escapes from the gate's sandbox, tried one by one: each must fail, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.gate import seccomp
from tidegate.gate.jobs import Job, Limits, Ran
from tidegate.gate.sandbox import NoSandbox, Sandbox

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
SMALL = Limits(memory_mb=256, cpu_s=5, wall_s=20, processes=24, file_mb=8, disk_mb=8)
SYSTEM_PYTHON = "/usr/bin/python3"
SOURCE = Path(__file__).resolve().parents[2] / "src"

_AS_USER = """
import json, sys
from pathlib import Path
from tidegate.gate.jobs import Job, Limits
from tidegate.gate.sandbox import Sandbox
asked = json.loads(sys.argv[1])
job = Job(tuple(asked["command"]), tuple((Path(a), b) for a, b in asked["read"]), limits=Limits(**asked["limits"]))
ran = Sandbox().run(job)
print(json.dumps([ran.code, ran.stopped, ran.wall_s, ran.peak_mb, ran.stdout.decode(errors="replace"), ran.stderr]))
"""


def _here(job: Job) -> Ran:
    return Sandbox().run(job)


def _as_nobody(job: Job) -> Ran:
    """Run the gate's own sandbox as a user that is nobody, with the system's Python."""
    limits = {name: getattr(job.limits, name) for name in Limits.__slots__}
    asked = {"command": job.command, "read": [[str(a), b] for a, b in job.read], "limits": limits}
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    done = subprocess.run(
        [*drop, SYSTEM_PYTHON, "-B", "-c", _AS_USER, json.dumps(asked)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        pytest.skip(f"no user namespaces for ordinary users here: {done.stderr.strip().splitlines()[-1:]}")
    code, stopped, wall_s, peak_mb, out, err = json.loads(done.stdout)
    return Ran(code, stopped, wall_s, peak_mb, out.encode(), err)


@pytest.fixture(params=["here", "ordinary user"])
def run(request: pytest.FixtureRequest) -> Callable[[Job], Ran]:
    if request.param == "here":
        return _here
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; 'here' is an ordinary user already")
    if not Path(SYSTEM_PYTHON).exists() or not os.access(SOURCE, os.R_OK) or not _public(SOURCE):
        pytest.skip("an ordinary user cannot read this checkout")
    return _as_nobody


def _public(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (path, *path.parents))


def python(code: str, *read: tuple[Path, str], limits: Limits = SMALL) -> Job:
    return Job(
        (SYSTEM_PYTHON if Path(SYSTEM_PYTHON).exists() else sys.executable, "-I", "-c", code), read, limits=limits
    )


def tried(run: Callable[[Job], Ran], code: str, *read: tuple[Path, str], limits: Limits = SMALL) -> Ran:
    """Run an attack that prints ESCAPED if it gets somewhere."""
    ran = run(python(code, *read, limits=limits))
    assert b"ESCAPED" not in ran.stdout, ran
    return ran


def test_it_runs_what_it_is_given_as_nobody_with_no_rights(run: Callable[[Job], Ran]) -> None:
    code = """
import os
print(os.getuid() != 0, os.getgroups() in ([], [65534], [os.getgid()]), os.getpid() < 10)
held = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
print(int(held['CapEff'], 16), int(held['CapPrm'], 16), held['NoNewPrivs'], held['Seccomp'])
"""
    ran = run(python(code))
    assert ran.stdout.decode().split() == ["True", "True", "True", "0", "0", "1", "2"], ran


def test_there_is_no_network(run: Callable[[Job], Ran]) -> None:
    code = """
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
    try:
        socket.socket(family); print('ESCAPED', family)
    except PermissionError as error:
        print(error.errno)
print([line.split(':')[0].strip() for line in open('/proc/net/dev').read().splitlines()[2:]])
"""
    ran = tried(run, code)
    assert ran.stdout.decode().split() == ["1", "1", "1", "1", "['lo']"], ran


def test_other_files_of_the_machine_are_not_there(run: Callable[[Job], Ran], tmp_path: Path) -> None:
    secret = tmp_path / "release-1.pem"
    secret.write_text("ESCAPED private key")
    code = f"""
import os
for path in ({str(secret)!r}, '/etc/shadow', '/etc/passwd', '/var/lib', '/home', '/sys', '/run', '/root/.ssh', '/boot',
             '/proc/1/root/etc/shadow', '/proc/self/root/var', '/dev/mem', '/dev/sda', '/dev/kmsg', '/dev/fuse'):
    try:
        print('ESCAPED', path, os.listdir(path) if os.path.isdir(path) else open(path).read())
    except OSError as error:
        print(type(error).__name__)
"""
    ran = tried(run, code)
    assert ran.ok and len(ran.stdout.split()) == 15, ran


def test_nothing_can_be_written_but_a_small_place_in_memory(run: Callable[[Job], Ran], tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.mkdir(mode=0o777)
    (payload / "rules").write_text("as it was")
    tmp_path.chmod(0o755)
    code = """
import os
for path in ('/usr/x', '/bin/x', '/lib/x', '/x', '/proc/x', '/dev/x', '/payload/x', '/payload/rules', '/etc/x'):
    try:
        open(path, 'w').write('ESCAPED'); print('ESCAPED', path)
    except OSError:
        pass
for what in (lambda: os.remove('/payload/rules'), lambda: os.chmod('/payload/rules', 0o777), lambda: os.mkdir('/y')):
    try:
        what(); print('ESCAPED')
    except OSError:
        pass
open('/tmp/x', 'w').write('fine')
"""
    ran = tried(run, code, (payload, "/payload")) if _reachable(run, payload) else _here(python(code))
    assert ran.ok, ran
    assert (payload / "rules").read_text() == "as it was" and sorted(p.name for p in payload.iterdir()) == ["rules"]


def _reachable(run: Callable[[Job], Ran], path: Path) -> bool:
    return run is _here or _public(path)


def test_links_in_the_payload_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("ESCAPED")
    payload = tmp_path / "payload"
    payload.mkdir()
    (payload / "link").symlink_to(outside / "secret")
    (payload / "up").symlink_to("../outside/secret")
    (payload / "dir").symlink_to(outside)
    (payload / "proc").symlink_to("/proc/1/root")
    code = f"""
import os
for path in ('link', 'up', 'dir/secret', 'proc' + {str(outside / "secret")!r}, '../outside/secret'):
    try:
        print(open('/payload/' + path).read())
    except OSError as error:
        print(type(error).__name__)
"""
    ran = tried(_here, code, (payload, "/payload"))
    assert ran.ok and len(ran.stdout.split()) == 5


def test_a_fork_bomb_stays_small_and_ends(run: Callable[[Job], Ran]) -> None:
    code = """
import os, time
made = 0
try:
    for _ in range(5000):
        if os.fork() == 0:
            time.sleep(30); os._exit(0)
        made += 1
    print('ESCAPED')
except OSError as error:
    print(made, error.errno, flush=True)
time.sleep(30)
"""
    before = time.monotonic()
    limits = Limits(memory_mb=512, cpu_s=5, wall_s=6, processes=24, disk_mb=8)
    ran = tried(run, code, limits=limits)
    made, number = map(int, ran.stdout.split())
    assert made < 24 and number == 11
    assert "did not end within 6 s" in ran.stopped
    assert time.monotonic() - before < 40


def test_nothing_outlives_the_sandbox(tmp_path: Path) -> None:
    mark = f"tidegate-escape-{os.getpid()}"
    code = f"""
import os, sys, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}])
print('started', flush=True)
"""
    ran = _here(python(code))
    assert ran.ok and ran.stdout == b"started\n"
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and _processes_naming(mark):
        time.sleep(0.05)
    assert not _processes_naming(mark)


def _processes_naming(mark: str) -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in words and "pytest" not in words:
            found.append(words)
    return found


@pytest.mark.parametrize(
    "bomb",
    [
        "b'x' * (1 << 33)",
        "[bytearray(1 << 24) for _ in range(200)]",
        "__import__('mmap').mmap(-1, 1 << 33)",
    ],
)
def test_a_memory_bomb_is_refused_its_memory(run: Callable[[Job], Ran], bomb: str) -> None:
    ran = tried(run, f"held = {bomb}; print('ESCAPED')")
    assert not ran.ok and ran.peak_mb < 512


def test_what_else_the_user_runs_takes_no_room(run: Callable[[Job], Ran]) -> None:
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] if os.geteuid() == 0 else []
    others = [subprocess.Popen([*as_user, "sleep", "60"]) for _ in range(SMALL.processes + 2)]
    try:
        assert run(python("print('here')")).stdout == b"here\n"
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_many_small_processes_together_are_bounded_too(run: Callable[[Job], Ran]) -> None:
    code = """
import os, time
for _ in range(12):
    if os.fork() == 0:
        held = bytearray(120 << 20); time.sleep(30); print('ESCAPED'); os._exit(0)
time.sleep(30)
"""
    ran = tried(run, code)
    assert "MB of memory" in ran.stopped


def test_what_waits_in_sockets_counts_as_memory(run: Callable[[Job], Ran]) -> None:
    code = """
import os, socket, time
for _ in range(8):
    if os.fork() == 0:
        break
held = [socket.socketpair() for _ in range(110)]
for pair in held:
    for end in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF, 32, 33):
            try:
                end.setsockopt(socket.SOL_SOCKET, option, 1 << 24); print('ESCAPED')
            except PermissionError:
                pass
        end.setblocking(False)
        try:
            while True:
                end.send(b'x' * 65536)
        except BlockingIOError:
            pass
time.sleep(30)
print('ESCAPED')
"""
    ran = tried(run, code)
    assert "MB of memory" in ran.stopped, ran


def test_pairs_of_sockets_are_local_ones_alone(run: Callable[[Job], Ran]) -> None:
    code = """
import socket
for family in range(64):
    if family != socket.AF_UNIX:
        try:
            socket.socketpair(family, socket.SOCK_DGRAM); print('ESCAPED', family)
        except PermissionError:
            pass
print('done')
"""
    assert tried(run, code).stdout == b"done\n"


def test_files_without_content_count_as_memory() -> None:
    code = """
for number in range(200_000):
    open('/tmp/%d' % number, 'w').close()
print('ESCAPED')
import time; time.sleep(30)
"""
    ran = tried(_here, code, limits=Limits(memory_mb=96, cpu_s=30, wall_s=60, disk_mb=8))
    assert "MB of memory" in ran.stopped, ran


def test_the_gates_own_surroundings_are_not_passed_on(
    run: Callable[[Job], Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_PASSPHRASE", "ESCAPED")
    reading, writing = os.pipe()
    os.write(writing, b"ESCAPED")
    for end in (reading, writing):
        os.set_inheritable(end, True)
    code = """
import os
print(sorted(os.environ))
for pid in ('1', 'self'):
    try:
        print(open('/proc/%s/environ' % pid).read().split('\\0'))
    except PermissionError:
        print('held')
for number in range(3, 64):
    try:
        os.set_blocking(number, False); print(os.read(number, 100))
    except OSError:
        pass
for place in ('/dev/tty', '/dev/console'):
    try:
        os.open(place, os.O_RDWR); print('ESCAPED')
    except OSError as error:
        print(error.errno)
"""
    try:
        ran = tried(run, code)
    finally:
        os.close(reading)
        os.close(writing)
    assert ran.ok, ran


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_the_disk_cannot_be_filled(run: Callable[[Job], Ran], place: str) -> None:
    code = f"""
import os
written = 0
try:
    for number in range(1000):
        with open('{place}/f%d' % number, 'wb', buffering=0) as file:
            written += file.write(bytes(1 << 20))
    print('ESCAPED')
except OSError as error:
    print(error.errno, written >> 20)
"""
    ran = tried(run, code)
    assert ran.stdout.split()[0] == b"28" and int(ran.stdout.split()[1]) <= 8


def test_a_file_and_the_output_have_bounds_as_well(run: Callable[[Job], Ran]) -> None:
    big = "open('/tmp/a', 'wb').write(bytes(9 << 20)); print('ESCAPED')"
    assert not tried(run, big).ok
    endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    limits = Limits(memory_mb=256, cpu_s=5, wall_s=20, output_mb=1)
    assert "of output" in run(python(endless, limits=limits)).stopped


def test_time_is_bounded_by_cpu_and_by_the_clock(run: Callable[[Job], Ran]) -> None:
    assert run(python("while True: pass", limits=Limits(cpu_s=1, wall_s=30))).code == 128 + 24
    slept = run(python("import time; time.sleep(60)", limits=Limits(wall_s=1)))
    assert "within 1 s" in slept.stopped and slept.wall_s < 20


def test_processes_outside_are_neither_seen_nor_signalled(run: Callable[[Job], Ran]) -> None:
    with subprocess.Popen(["sleep", "60"]) as victim:
        code = f"""
import os, signal
print([name for name in os.listdir('/proc') if name.isdigit() and int(name) > 20], flush=True)
for pid in ({victim.pid}, {os.getpid()}, -{victim.pid}):
    try:
        os.kill(pid, signal.SIGKILL); print('ESCAPED')
    except OSError as error:
        print(error.errno, flush=True)
try:
    os.kill(-1, signal.SIGTERM)
except OSError:
    pass
"""
        ran = tried(run, code)
        assert ran.stdout.decode().split("\n")[0] == "[]", ran
        assert victim.poll() is None
        victim.kill()


_CALLS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for name, number, *arguments in {calls!r}:
    done = libc.syscall(number, *[ctypes.c_long(value) for value in arguments])
    error = ctypes.get_errno()
    if done >= 0:
        print('ESCAPED', name, done)
    else:
        print(name, error)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this machine")
def test_every_denied_system_call_is_denied(run: Callable[[Job], Ran]) -> None:
    side = ("x86_64", "aarch64").index(platform.machine())
    calls = [(name, numbers[side], 0, 0, 0, 0) for name, numbers in seccomp.DENIED.items()]
    calls += [("clone-newuser", (56, 220)[side], 0x10000000 | 17, 0, 0, 0), ("tiocsti", (16, 29)[side], 0, 0x5412, 0),
              ("tioclinux", (16, 29)[side], 0, 0x541C, 0)]  # fmt: skip
    ran = tried(run, _CALLS.format(calls=calls))
    answers = dict(line.split() for line in ran.stdout.decode().splitlines())
    assert set(answers) == {name for name, *_ in calls}
    assert {name: code for name, code in answers.items() if code != "1"} == {}
    absent = tried(run, _CALLS.format(calls=[(n, numbers[side], 0, 0) for n, numbers in seccomp.ABSENT.items()]))
    assert {line.split()[1] for line in absent.stdout.decode().splitlines()} == {"38"}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this machine")
def test_system_calls_that_are_newer_than_the_list_are_not_there(run: Callable[[Job], Ran]) -> None:
    calls = [(f"call-{number}", number, 0, 0) for number in (seccomp.FIRST_UNKNOWN, 467, 500, 511)]
    answers = [line.split() for line in tried(run, _CALLS.format(calls=calls)).stdout.decode().splitlines()]
    assert [code for _, code in answers] == ["38"] * 4


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another machine has no second way in")
def test_the_32_bit_way_into_the_kernel_is_deadly(run: Callable[[Job], Ran]) -> None:
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20 (getpid); int 0x80; ret
call = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print('ESCAPED', call())
"""
    ran = tried(run, code)
    assert ran.code in (128 + 31, 128 + 11), ran  # SIGSYS; SIGSEGV where the kernel has no such way


def test_proc_leads_nowhere(run: Callable[[Job], Ran]) -> None:
    code = """
import os
mine = os.getpid()
for path in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/overcommit_memory',
             '/proc/sysrq-trigger', '/proc/sys/kernel/modprobe', '/proc/irq/default_smp_affinity'):
    try:
        with open(path, 'wb', buffering=0) as file:
            print('ESCAPED', path, file.write(b'1'))
    except OSError as error:
        print(type(error).__name__)
for path in ('/proc/kcore', '/proc/kmsg'):
    try:
        with open(path, 'rb') as file:
            print('ESCAPED', path, file.read(16))
    except OSError as error:
        print(type(error).__name__)
for number in sorted(os.listdir('/proc/self/fd'), key=int):
    try:
        where = os.readlink('/proc/self/fd/' + number)
    except FileNotFoundError:
        continue
    if not where.startswith(('pipe:', '/memfd:', '/dev/null', '/proc/%d/fd' % mine)):
        print('ESCAPED', number, where)
# The first process is bubblewrap's own: an ordinary user's run may reach it, so it must be held as fast.
held = dict(line.split(':\\t') for line in open('/proc/1/status').read().splitlines() if ':\\t' in line)
print(held['Seccomp'], held['NoNewPrivs'])
try:
    open('/proc/1/mem', 'rb+').close()
    print(int(held['CapPrm'], 16), int(held['CapEff'], 16))
except PermissionError:
    print(0, 0)
"""
    ran = tried(run, code)
    assert ran.ok and len(ran.stdout.split()) == 12, ran
    assert ran.stdout.split()[-4:] == [b"2", b"1", b"0", b"0"], ran


def test_a_program_with_the_rights_of_root_gives_none(run: Callable[[Job], Ran]) -> None:
    code = """
import ctypes, os, stat
for place in ('/usr/bin', '/usr/sbin', '/usr/lib'):
    for name in sorted(os.listdir(place)):
        path = os.path.join(place, name)
        if os.path.isfile(path) and os.stat(path).st_mode & (stat.S_ISUID | stat.S_ISGID):
            assert os.statvfs(path).f_flag & os.ST_NOSUID, path
for what in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]),
             lambda: os.mknod('/tmp/sda', stat.S_IFBLK | 0o666, os.makedev(8, 0)), lambda: os.chown('/tmp', 0, 0),
             lambda: os.link('/etc/ld.so.cache', '/tmp/linked')):
    try:
        what()
        if os.getuid() == 0 or os.path.exists('/tmp/linked') or os.path.exists('/tmp/sda'):
            print('ESCAPED')
    except OSError as error:
        print(error.errno)
print(ctypes.CDLL(None).prctl(38, 0, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS is not to be taken back
"""
    ran = tried(run, code)
    assert ran.ok and ran.stdout.split()[-1] == b"-1", ran


def test_limits_cannot_be_raised(run: Callable[[Job], Ran]) -> None:
    code = """
import resource
for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE,
             resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK):
    hard = resource.getrlimit(what)[1]
    try:
        resource.setrlimit(what, (hard + 1, hard + 1))
        print('ESCAPED', what, hard)
    except (OSError, ValueError):
        print('held', hard >= 0)
"""
    assert tried(run, code).stdout == b"held True\n" * 7


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_filter_is_well_formed(architecture: str) -> None:
    lines = list(struct.iter_unpack("=HBBI", seccomp.bpf(architecture)))
    returns = {0x7FFF0000, 0x80000000, 0x00050001, 0x00050026, 0x0005005F}
    assert 60 < len(lines) < 256
    for here, (operation, yes, no, value) in enumerate(lines):
        if operation == 0x06:
            assert value in returns
        else:
            assert here + 1 + max(yes, no) < len(lines), "a jump stays within the program"
    assert {value for operation, _, _, value in lines if operation == 0x06} == returns


def test_numbers_agree_with_the_systems_headers() -> None:
    header = Path("/usr/include/asm-generic/unistd.h")
    if not header.exists():
        pytest.skip("no kernel headers here")
    words = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR")]
    known = {w[1].removeprefix("__NR3264_").removeprefix("__NR_"): int(w[2]) for w in words if w[2].isdigit()}
    table = {**seccomp.DENIED, **seccomp.ABSENT, **seccomp.UNSUPPORTED}
    assert {n: known[n] for n in table if n in known} == {n: table[n][1] for n in table if n in known}
    assert len(set(table) & set(known)) > 50


def test_without_bubblewrap_nothing_runs_and_it_says_what_to_do() -> None:
    sandbox = Sandbox(bwrap="bwrap-that-is-not-there")
    with pytest.raises(NoSandbox, match=r"apt-get install bubblewrap.*Nothing was run unprotected"):
        sandbox.run(Job(("true",)))


def test_where_a_sandbox_cannot_be_made_it_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'no permission to make namespaces' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(NoSandbox, match="cannot make a sandbox here: no permission to make namespaces"):
        Sandbox(bwrap=str(broken)).run(Job(("true",)))


def test_what_it_is_told_and_says_comes_through() -> None:
    heard: list[bytes] = []
    code = "import sys; data = sys.stdin.buffer.read(); print(len(data)); sys.exit(3)"
    job = Job((sys.executable, "-I", "-c", code), stdin=b"x" * 100_000, env={"A": "b"})
    ran = Sandbox().run(job, heard.append)
    assert (ran.code, ran.stdout, ran.crashed, b"".join(heard)) == (3, b"100000\n", False, b"100000\n")
    crashed = _here(python("import os; os.abort()"))
    assert crashed.crashed and "SIGABRT" in crashed.sentence
