"""More escapes from the gate's sandbox: odd ways into the kernel, memory that no limit counts, what is left behind."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable

import pytest
from tests.gate import test_gate_sandbox as own

from tidegate.gate.jobs import Job, Limits, Ran
from tidegate.gate.sandbox import Sandbox

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
run = own.run
"""As root and as an ordinary user."""
Run = Callable[[Job], Ran]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another machine has no such numbers")
def test_the_x32_numbers_lead_nowhere(run: Run) -> None:
    calls = [(f"x32-{number}", 0x40000000 | number, 0, 0, 0) for number in (39, 41, 101, 165, 272, 321, 512, 520)]
    answers = own.tried(run, own._CALLS.format(calls=calls)).stdout.decode().splitlines()
    assert len(answers) == len(calls) and {line.split()[1] for line in answers} <= {"1", "38"}


def test_new_namespaces_are_not_to_be_had_by_any_flag(run: Run) -> None:
    number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
    flags = [0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
    calls = [(f"clone-{flag:x}", number, flag | 17, 0, 0, 0) for flag in flags]
    answers = own.tried(run, own._CALLS.format(calls=calls)).stdout.decode().splitlines()
    assert [line.split()[1] for line in answers] == ["1"] * len(flags)


def test_other_processes_of_the_sandbox_cannot_be_read_or_led(run: Run) -> None:
    """Its first process is bubblewrap's own; a child is the content's own and may be read like itself."""
    code = """
import os
held = dict(line.split(':\\t') for line in open('/proc/1/status').read().splitlines() if ':\\t' in line)
for name in ('mem', 'environ', 'maps', 'root', 'cwd', 'fd', 'ns/net', 'ns/user', 'ns/mnt'):
    path = '/proc/1/' + name
    try:
        if name == 'mem':
            open(path, 'rb+').close()
        elif name.startswith('ns/'):
            same = os.readlink(path) == os.readlink('/proc/self/' + name)
            print('' if same else 'ESCAPED ' + path)
        elif name == 'root':
            print('ESCAPED' if os.path.exists(path + '/etc/shadow') or os.path.exists(path + '/home') else '')
        elif name == 'environ':
            print('ESCAPED' if b'PASS' in open(path, 'rb').read() else '')
    except OSError:
        pass
assert held['NoNewPrivs'] == '1' and held['Seccomp'] == '2'
for what in ('oom_score_adj', 'autogroup', 'coredump_filter'):
    try:
        with open('/proc/1/' + what, 'wb', buffering=0) as file:
            file.write(b'-1000' if what == 'oom_score_adj' else b'-20')
    except OSError:
        continue
    if what == 'oom_score_adj':
        print('ESCAPED', what)
print('done')
"""
    assert own.tried(run, code).stdout.split()[-1:] == [b"done"]


def test_it_can_take_no_rank_before_others(run: Run) -> None:
    code = """
import os
for what in (lambda: os.nice(-5), lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
             lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
             lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(99))):
    try:
        what(); print('ESCAPED')
    except OSError:
        print('held')
"""
    assert own.tried(run, code).stdout == b"held\n" * 4


def test_there_are_no_terminals_to_be_had(run: Run) -> None:
    """What waits in one is counted by nobody."""
    code = """
import os
for path in ('/dev/ptmx', '/dev/pts/ptmx', '/dev/tty', '/dev/console'):
    try:
        os.open(path, os.O_RDWR | os.O_NOCTTY); print('ESCAPED', path)
    except OSError:
        print('held')
"""
    assert own.tried(run, code).stdout == b"held\n" * 4


def test_what_waits_in_pipes_stays_small(run: Run) -> None:
    code = """
import fcntl, os, time
for _ in range(12):
    if os.fork() == 0:
        break
held = 0
try:
    while True:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        try:
            fcntl.fcntl(writing, 1031, 1 << 20)
        except OSError:
            pass
        try:
            while True:
                held += os.write(writing, bytes(65536))
        except BlockingIOError:
            pass
except OSError:
    pass
print(held >> 20, flush=True)
time.sleep(3)
"""
    ran = own.tried(run, code, limits=Limits(memory_mb=512, cpu_s=10, wall_s=30, processes=24, disk_mb=8))
    total = sum(int(word) for word in ran.stdout.split())
    assert ran.stopped or total < 256, (total, ran)


def test_tables_for_memory_that_is_hardly_used_count_too(run: Run) -> None:
    """One page in each 2 MB: little of it is resident, and as many pages hold where it is."""
    code = """
import mmap, os, time
for _ in range(20):
    if os.fork() == 0:
        break
held = mmap.mmap(-1, 200 << 20)
for at in range(0, 200 << 20, 2 << 20):
    held[at] = 1
print('fine', flush=True)
time.sleep(1)
"""
    ran = own.tried(run, code)
    assert ran.peak_mb < 256 * 1.25 + 64 or ran.stopped, ran


@pytest.mark.parametrize("how", ["time", "memory", "output"])
def test_nothing_outlives_a_run_that_was_ended(how: str, tmp_path: object) -> None:
    mark = f"tidegate-orphan-{how}-{time.monotonic_ns()}"
    last = {
        "time": "time.sleep(600)",
        "memory": "held = b'x' * (70 << 20); time.sleep(600)",
        "output": "[sys.stdout.write('x' * 65536) for _ in range(10000)]; time.sleep(600)",
    }[how]
    code = f"""
import os, signal, sys, time
for number in range(4):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(name, signal.SIG_IGN)
            sys.argv = []
            if number == 0 or {how!r} == 'memory':
                {last}
            os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', {mark!r}])
        time.sleep(600)
time.sleep(600)
"""
    limits = Limits(memory_mb=256 if how != "memory" else 128, cpu_s=10, wall_s=2 if how == "time" else 60, output_mb=1)
    ran = own._here(own.python(code, limits=limits))
    why = {"time": "did not end within", "memory": "MB of memory", "output": "MB of output"}[how]
    assert why in ran.stopped, ran
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and own._processes_naming(mark):
        time.sleep(0.05)
    assert not own._processes_naming(mark)


def test_sockets_of_one_sandbox_reach_no_other(tmp_path: object) -> None:
    """Names without a file belong to the network namespace: those of this machine are out of reach."""
    import socket

    name = f"\0tidegate-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        code = f"""
import socket
with socket.socket(socket.AF_UNIX) as reaching:
    try:
        reaching.connect({name!r}); print('ESCAPED')
    except OSError as error:
        print(error.errno)
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, 40, 44):
    try:
        socket.socket(family, socket.SOCK_RAW); print('ESCAPED', family)
    except OSError as error:
        print(error.errno)
"""
        job = own.python(code)
        ran = Sandbox().run(Job(job.command, limits=job.limits, local_sockets=True))
    assert ran.stdout.split() == [b"111"] + [b"1"] * 6, ran


def test_attributes_and_access_lists_hold_nothing(run: Run) -> None:
    """An access list of a file in memory is memory that nothing counts; copying files with theirs does without."""
    code = """
import os, shutil, struct, subprocess
open('/tmp/a', 'w').close()
rest = [(tag, 7, 0xffffffff) for tag in (4, 16, 32)]
entries = [(1, 7, 0xffffffff), *[(2, 7, os.getuid())] * 8000, *rest]
access = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *each) for each in entries)
for name, value in (('system.posix_acl_access', access), ('user.x', b'x' * 60000)):
    for follow in (True, False):
        try:
            os.setxattr('/tmp/a', name, value, follow_symlinks=follow); print('ESCAPED', name)
        except OSError as error:
            print(error.errno)
    with open('/tmp/a') as file:
        try:
            os.setxattr(file.fileno(), name, value); print('ESCAPED', name)
        except OSError as error:
            print(error.errno)
shutil.copy2('/usr/bin/env', '/tmp/env')
print(subprocess.run(['cp', '-a', '/usr/bin/env', '/tmp/env2'], capture_output=True, text=True))
"""
    said = own.tried(run, code).stdout.decode().splitlines()
    assert said[:-1] == ["95"] * 6 and "returncode=0" in said[-1] and "stderr=''" in said[-1], said


def test_what_the_machine_has_a_bounded_number_of_is_not_to_be_had(run: Run) -> None:
    """Asynchronous input and output: 65,536 for all programs of a machine together."""
    number = {"x86_64": 206, "aarch64": 0}[platform.machine()]
    calls = [("io_setup", number, 1000, 0, 0, 0)]
    assert own.tried(run, own._CALLS.format(calls=calls)).stdout.split() == [b"io_setup", b"1"]


def test_watches_of_files_are_not_to_be_had(run: Run) -> None:
    """Counted for all programs of a user on the machine, and each holds a file in memory that nothing counts."""
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.inotify_init1(0), ctypes.get_errno(), libc.inotify_init(), libc.inotify_add_watch(0, b'/usr', 2))
"""
    assert own.tried(run, code).stdout.split() == [b"-1", b"38", b"-1", b"-1"]


def test_timers_and_signals_that_wait_are_few(run: Run) -> None:
    """The kernel holds memory for each, and counts them for all programs of a user."""
    code = """
import ctypes
libc, made, count = ctypes.CDLL(None), ctypes.c_void_p(), 0
while count < 50_000 and libc.timer_create(1, None, ctypes.byref(made)) == 0:
    count += 1
print('ESCAPED' if count > 2000 else 'held')
"""
    assert own.tried(run, code).stdout.split() == [b"held"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another machine has other numbers")
def test_a_terminal_is_typed_into_by_no_spelling_of_the_request(run: Run) -> None:
    """The kernel looks at the lower half of the number alone, and so does the filter."""
    calls = [(f"ioctl-{high}", 16, 0, high << 32 | 0x5412, 0, 0) for high in (0, 1, 0x7FFFFFFF)]
    answers = own.tried(run, own._CALLS.format(calls=calls)).stdout.decode().splitlines()
    assert [line.split()[1] for line in answers] == ["1"] * 3


def test_open_files_give_no_more_than_they_were_opened_for(run: Run) -> None:
    code = """
import mmap, os
fd = os.open('/usr/bin/env', os.O_RDONLY)
again = '/proc/self/fd/%d' % fd
for what in (lambda: os.open(again, os.O_RDWR), lambda: os.truncate(again, 0), lambda: os.fchmod(fd, 0o777),
             lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_WRITE), lambda: os.link(again, '/tmp/env'),
             lambda: os.link('/usr/bin/env', '/tmp/env'), lambda: os.utime(again), lambda: os.utime('/usr/bin/env'),
             lambda: os.open('/usr', os.O_TMPFILE | os.O_RDWR),
             lambda: (os.mknod('/tmp/null', 0o20666, os.makedev(1, 3)), os.open('/tmp/null', os.O_RDONLY)),
             lambda: (os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0)), os.open('/tmp/disk', os.O_RDONLY))):
    try:
        what(); print('ESCAPED')
    except OSError:
        print('held')
"""
    assert own.tried(run, code).stdout == b"held\n" * 11
