"""What a little machine is made of: Debian's kernel and BusyBox, and an initramfs packed from them; no root needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tidegate.agent import guard

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".tools" / "vm"
KERNEL, BUSYBOX = "linux-image-cloud-amd64", "busybox-static"
MODULES = ("virtio_pci", "virtio_blk", "ext4", "button", "evdev")
"""What the machine needs to see its disk and its power button; what is built into the kernel is no file."""
HOOK = Path(guard.__file__).with_name("initramfs") / "guard.sh"
FETCH_S = 60.0


class Missing(Exception):
    """The machine cannot be built here; the sentence is the reason to skip."""


def package(name: str) -> Path:
    """Give a directory with a Debian package's files, fetched once. Raises Missing."""
    kept = CACHE / name
    if kept.is_dir():
        return kept
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise Missing(f"needs {tool} to fetch {name}")
    half = CACHE / f"{name}.half"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    fetched = _fetch(name, half)
    _run(["dpkg-deb", "-x", str(fetched), str(half)], half)
    fetched.unlink()
    half.rename(kept)
    return kept


def _fetch(name: str, into: Path) -> Path:
    for again in (False, True):
        if again:  # a machine whose lists were cleaned away; without root this changes nothing
            _run(["apt-get", "update"], into, check=False)
        _run(["apt-get", "download", name], into, check=False)
        if found := sorted(into.glob("*.deb")):
            return found[0]
    raise Missing(f"Debian's {name} cannot be fetched here")


def _run(command: list[str], directory: Path, *, check: bool = True) -> str:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=check, timeout=FETCH_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"{command[0]} failed: {error}") from error
    return done.stdout


@cache
def kernel_package() -> Path:
    """Fetch the kernel that the metapackage names now, or the one that is kept. Raises Missing."""
    kept = sorted(CACHE.glob("linux-image-*-cloud-amd64"))
    if kept:
        return kept[-1]
    for again in (False, True):
        if again:
            _run(["apt-get", "update"], ROOT, check=False)
        said = _run(["apt-cache", "depends", KERNEL], ROOT, check=False)
        if found := re.search(r"Depends: (linux-image-\S+)", said):
            return package(found[1])
    raise Missing(f"no {KERNEL} in the package lists of this system")


def kernel() -> Path:
    """Give the kernel, unpacked where that is known how: an emulated processor takes seconds to. Raises Missing."""
    packed = next((kernel_package() / "boot").glob("vmlinuz-*"))
    unpacked = packed.with_name("vmlinux")
    if not unpacked.exists():
        content = unpack_kernel(packed.read_bytes())
        if not content.startswith(b"\x7fELF"):
            return packed
        half = unpacked.with_suffix(".half")
        half.write_bytes(content)
        half.rename(unpacked)
    return unpacked


def unpack_kernel(data: bytes) -> bytes:
    """Unpack what follows the mark of LZ4's older frame format; empty if there is none."""
    at = data.find(b"\x02\x21\x4c\x18") + 4
    whole = bytearray()
    while at >= 4:
        size = int.from_bytes(data[at : at + 4], "little")
        block = _unpack_block(data[at + 4 : at + 4 + size])
        whole += block
        at += 4 + size
        if len(block) < 8 << 20:  # every block but the last is full
            break
    return bytes(whole)


def _unpack_block(source: bytes) -> bytearray:
    """Unpack one LZ4 block: literals, then a copy of what was written already, and again."""
    whole, at = bytearray(), 0

    def length(nibble: int, at: int) -> tuple[int, int]:
        if nibble < 15:
            return nibble, at
        more = 255
        while more == 255:
            more, at = source[at], at + 1
            nibble += more
        return nibble, at

    while at < len(source):
        token = source[at]
        literals, at = length(token >> 4, at + 1)
        whole += source[at : at + literals]
        at += literals
        if at >= len(source):
            break
        back = int.from_bytes(source[at : at + 2], "little")
        copied, at = length(token & 15, at + 2)
        copied += 4
        begin = len(whole) - back
        piece = bytes(whole[begin : begin + copied])
        whole += piece if back >= copied else (piece * (copied // back + 1))[:copied]
    return whole


def busybox() -> Path:
    return next(path for path in package(BUSYBOX).rglob("busybox") if path.parent.name == "bin")


def modules() -> list[Path]:
    """The modules in the order in which they must be loaded: each says what it depends on."""
    files = {path.stem.replace("-", "_"): path for path in (kernel_package() / "lib").rglob("*.ko")}
    ordered: list[Path] = []

    def add(name: str) -> None:
        if name not in files or files[name] in ordered:
            return
        said = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for other in (said[1].decode() if said else "").split(","):
            add(other.replace("-", "_"))
        ordered.append(files[name])

    for name in MODULES:
        add(name)
    return ordered


def initramfs(target: Path, hook: str = "") -> Path:
    """Pack the initramfs, with the guard as it is, or as a test has changed it. Raises Missing."""
    found = modules()
    files = {"bin/busybox": busybox().read_bytes(), "guard.sh": hook.encode() or HOOK.read_bytes()}
    files["init"] = Path(__file__).with_name("init.sh").read_bytes()
    files["modules/order"] = "\n".join(path.name for path in found).encode()
    files |= {f"modules/{path.name}": path.read_bytes() for path in found}
    entries = [(name, 0o040755, b"", (0, 0)) for name in ("bin", "dev", "modules")]
    entries += [("dev/console", 0o020600, b"", (5, 1))]
    entries += [(name, 0o100755, content, (0, 0)) for name, content in files.items()]
    entries += [("TRAILER!!!", 0, b"", (0, 0))]
    target.write_bytes(b"".join(_entry(inode, *entry) for inode, entry in enumerate(entries, 1)))
    return target


def _entry(inode: int, name: str, mode: int, content: bytes, device: tuple[int, int]) -> bytes:
    """One file as the kernel's `newc` format has it: fields of eight hexadecimal digits, parts padded to four bytes."""
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
