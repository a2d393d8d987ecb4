"""Networks of a test's own: a namespace for each machine, a switch between them, and cables that can be pulled."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
_NEWNET = 0x40000000


class Net:
    """Machines by name. What is started inside one has its network, and so has what that starts.

    A cable that is cut `silent`ly loses everything and tells nobody; one that is `down` is seen to be down.
    """

    def __init__(self, *names: str) -> None:
        self._prefix = f"tg{secrets.token_hex(3)}"
        self._names = names
        self._switch = f"{self._prefix}-switch"
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "switch", "up")
            for name in names:
                self._plug_in(name)
        except BaseException:
            self.close()
            raise

    def _plug_in(self, name: str) -> None:
        space, cable = self._space(name), f"to-{name}"[:15]
        _ip("netns", "add", space)
        _ip("-n", self._switch, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", space, "link", "set", link, "up")
        _ip("-n", self._switch, "link", "set", cable, "master", "switch", "up")

    def _space(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def address(self, name: str) -> str:
        """The address of a machine."""
        return f"10.213.0.{self._names.index(name) + 1}"

    def cut(self, name: str, how: str) -> None:
        """Pull a machine's cable: "silent" or "down"."""
        change = ["nomaster"] if how == "silent" else ["down"]
        _ip("-n", self._switch, "link", "set", f"to-{name}"[:15], *change)

    def heal(self, name: str) -> None:
        """Plug it in again."""
        _ip("-n", self._switch, "link", "set", f"to-{name}"[:15], "master", "switch", "up")

    def inside(self, name: str, work: Callable[[], T]) -> T:
        """Do work on a machine: in a thread of its own, whose sockets and processes are there."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._inside, name, work).result()

    def _inside(self, name: str, work: Callable[[], T]) -> T:
        space = os.open(f"/run/netns/{self._space(name)}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(space, _NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(space)
        return work()

    def close(self) -> None:
        """Take everything away; cables and switch go with their namespaces."""
        for name in (*map(self._space, self._names), self._switch):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def net_of(*names: str) -> Iterator[Net]:
    """A network of these machines; skips where none can be made."""
    if shutil.which("ip") is None or not Path("/proc/self/ns/net").exists():
        pytest.skip("network namespaces need Linux and ip: apt install iproute2")
    if os.geteuid():
        pytest.skip("only root may make network namespaces")
    try:
        net = Net(*names)
    except OSError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        yield net
    finally:
        net.close()
