"""The files without which a device stops: where content takes one of these for something bad, nothing works."""

from __future__ import annotations

import re

_PROGRAMS = re.compile(
    r"(agetty|apt|apt-get|awk|bash|busybox|bzip2|cat|chmod|chown|chroot|containerd|cp|cpio|cron|curl|cut|dash|"
    r"date|dbus-daemon|dd|df|dmesg|dnf|docker|dpkg|du|echo|env|file|find|gawk|getty|git|gpg|grep|gzip|"
    r"hostname|id|ifconfig|init|install|ip|iptables|journalctl|kill|kmod|less|ln|login|ls|lsof|mawk|mkdir|"
    r"mount|mv|nano|nc|netstat|NetworkManager|nft|nginx|node|openssl|passwd|perl|ping|polkitd|ps|python3|rm|"
    r"rpm|rsync|rsyslogd|runc|runuser|scp|sed|sh|sleep|sort|ss|ssh|sshd|stat|stty|su|sudo|systemctl|tail|tar|"
    r"tee|test|top|touch|udevadm|umount|uname|vi|vim\.tiny|wget|who|xargs|xz|zstd)\Z"
)
_WITH_VERSION = re.compile(r"(python|perl)[\d.]+\Z")
_LIBRARIES = re.compile(
    r"(ld-linux.*|ld-musl.*|lib(c|m|crypt|crypto|ssl|pthread|dl|rt|resolv|nss_\w+|pam|selinux|systemd|udev|stdc\+\+|gcc_s"
    r"|z|lzma|zstd|bz2|curl|dbus-1|glib-2\.0|python3\.\d+|expat|sqlite3|acl|cap|mount|blkid|tinfo)[-.0-9]*\.so[.\d]*)\Z"
)
_DAEMONS = re.compile(r"systemd(-\w+)?\Z")


def is_needed(path: str) -> bool:
    """Say it of a path below /usr, by its name."""
    above, _, name = path.rpartition("/")
    if above in ("bin", "sbin"):
        return _PROGRAMS.match(name) is not None or _WITH_VERSION.match(name) is not None
    return _LIBRARIES.match(name) is not None or (above == "lib/systemd" and _DAEMONS.match(name) is not None)
