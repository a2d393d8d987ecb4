"""The system calls that nothing in the gate's sandbox may make, as a filter that the kernel runs (seccomp BPF).

A deny list: what an interpreter needs is left, what leads out of a sandbox or into the kernel's odd corners is not.
Numbers are those of the kernel's tables (x86: `syscall_64.tbl`, aarch64: `asm-generic/unistd.h`).
"""

from __future__ import annotations

import errno
import platform
import struct

from tidegate.core.errors import Refused

_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7
_X32_BIT = 0x40000000
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARG0, _ARG1, _ARG2 = 0, 4, 16, 24, 32
_Line = tuple[int, int, str, str]
"""(operation, value, label if so, label if not); "" is the next line."""
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # they type into a terminal

DENIED: dict[str, tuple[int, int]] = {
    # the network
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # the file system and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "swapon": (167, 224), "swapoff": (168, 225), "fanotify_init": (300, 262), "lookup_dcookie": (212, 18),
    # the kernel itself
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "reboot": (169, 142), "syslog": (103, 116), "acct": (163, 89), "personality": (135, 92), "vhangup": (153, 58),
    "nfsservctl": (180, 42), "vmsplice": (278, 75), "mbind": (237, 235), "set_mempolicy": (238, 237),
    # keys, names and the clock
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "sethostname": (170, 161),
    "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    # memory that no limit of the sandbox counts
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "memfd_secret": (447, 447),
    # what the whole machine has a bounded number of
    "io_setup": (206, 0),
}  # fmt: skip
"""By name: the number on x86_64 and on aarch64. They end with EPERM."""

X86_ALONE = {"iopl": 172, "ioperm": 173, "modify_ldt": 154, "uselib": 134, "sysfs": 139, "create_module": 174,
             "inotify_init": 253}  # fmt: skip
ABSENT = {
    "clone3": (435, 435), "memfd_create": (319, 279), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
}  # fmt: skip
"""They end as if the kernel did not have them: programs then take an older way, whose arguments can be looked at, or
look again and again: watches of files count for all programs of a user, and each holds a file in memory."""
UNSUPPORTED = {"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7)}
"""As if the file system had no attributes and no access lists (no limit counts those); copying then does without."""
_CLONE, _IOCTL = (56, 220), (16, 29)
_SOCKET, _SOCKETPAIR, _SETSOCKOPT, _AF_UNIX = DENIED["socket"], (53, 199), (54, 208), 1
_BUFFERS = (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF, and the two that go beyond the system's limit
_ARGUMENTS: dict[str, list[_Line]] = {
    "family": [(_LOAD, _ARG0, "", ""), (_JEQ, _AF_UNIX, "allow", "deny")],
    "option": [(_LOAD, _ARG2, "", ""), *((_JEQ, one, "deny", "") for one in _BUFFERS), (_RET, _ALLOW, "", "")],
    "flags": [(_LOAD, _ARG0, "", ""), (_JSET, _NEW_NAMESPACES, "deny", "allow")],
    "request": [(_LOAD, _ARG1, "", ""), (_JEQ, _TIOCSTI, "deny", ""), (_JEQ, _TIOCLINUX, "deny", "allow")],
}
"""What is looked at in the arguments of a call that is not denied altogether."""
_BETWEEN_OWN = ("socket", "connect", "bind", "listen", "accept", "accept4")
FIRST_UNKNOWN = 463
"""From here on the kernel's calls were made after this list (6.10); nobody has said that they lead nowhere."""


def machine() -> str:
    """Give this machine's architecture. Raises Refused if there is no filter for it."""
    found = platform.machine()
    if found not in ("x86_64", "aarch64"):
        raise Refused(f"the gate's sandbox has no filter for {found}; run the gate on x86_64 or aarch64")
    return found


def bpf(architecture: str, *, local_sockets: bool = False) -> bytes:
    """Assemble the filter, as `bwrap --seccomp` reads it: an array of struct sock_filter.

    With `local_sockets` processes of one sandbox may talk to each other by sockets of family AF_UNIX; those of every
    other family stay denied. Pairs of such sockets are no way out and always allowed; their buffers keep their size.
    """
    side = ("x86_64", "aarch64").index(architecture)
    left = _BETWEEN_OWN if local_sockets else ()
    denied = [numbers[side] for name, numbers in DENIED.items() if name not in left]
    if side == 0:
        denied += X86_ALONE.values()
    code: list[_Line] = []
    code += [(_LOAD, _ARCH, "", ""), (_JEQ, (_X86_64, _AARCH64)[side], "", "kill"), (_LOAD, _NR, "", "")]
    if side == 0:
        code.append((_JGE, _X32_BIT, "deny", ""))
    code += [(_JEQ, number, "deny", "") for number in sorted(denied)]
    code.append((_JGE, FIRST_UNKNOWN, "absent", ""))
    code += [(_JEQ, numbers[side], "absent", "") for numbers in ABSENT.values()]
    code += [(_JEQ, numbers[side], "unsupported", "") for numbers in UNSUPPORTED.values()]
    looks = [
        (_SOCKET, "family"),
        (_SOCKETPAIR, "family"),
        (_SETSOCKOPT, "option"),
        (_CLONE, "flags"),
        (_IOCTL, "request"),
    ]
    code += [(_JEQ, numbers[side], label, "") for numbers, label in looks]
    code.append((_RET, _ALLOW, "", ""))
    labels: dict[str, int] = {}
    for label, lines in _ARGUMENTS.items():
        labels[label] = len(code)
        code += lines
    ends = {"allow": _ALLOW, "deny": _ERRNO | errno.EPERM, "absent": _ERRNO | errno.ENOSYS, "kill": _KILL}
    ends["unsupported"] = _ERRNO | errno.EOPNOTSUPP
    for name, value in ends.items():
        labels[name] = len(code)
        code.append((_RET, value, "", ""))

    def jump(label: str, here: int) -> int:
        return labels[label] - here - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", operation, jump(yes, here), jump(no, here), value)
        for here, (operation, value, yes, no) in enumerate(code)
    )
