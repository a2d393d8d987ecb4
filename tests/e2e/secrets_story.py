"""A run whose every word is kept, and the search for secrets in all that was told, written or shown as an argument."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tidegate.cli.main import run

RIGHT, WRONG, PHRASE = "correct horse battery staple", "another horse, misspelled", "a holder's own passphrase"


class Watch:
    """Looks at the command line and the environment of every process that names the run's directory in either."""

    def __init__(self, place: Path) -> None:
        self._place, self._over = os.fsencode(place), threading.Event()
        self.seen: dict[str, bytes] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.15):
            self.look()

    def look(self) -> None:
        for process in Path("/proc").iterdir():
            if not process.name.isdecimal() or int(process.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                whole = (process / "cmdline").read_bytes() + b"\0" + (process / "environ").read_bytes()
                if self._place in whole:
                    self.seen[f"process {process.name} {len(whole)}"] = whole

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Story:
    """What is done, what was told meanwhile, and every secret that there was at any moment."""

    def __init__(self, place: Path) -> None:
        self.place, self.home, self.own = place, place / "home", place / "own"
        self.own.mkdir(mode=0o700)
        self.told: dict[str, bytes] = {}
        self.secrets: dict[str, bytes] = {}
        self._running: list[subprocess.Popen[bytes]] = []
        self._env = {**os.environ, "TIDEGATE_HOME": str(self.home), "TIDEGATE_SESSION": str(self.own / "session.json")}
        for name, text in (("right", RIGHT), ("wrong", WRONG), ("phrase", PHRASE)):
            self.keep_secret(f"password {name}", text)
            (self.own / name).touch(0o600)
            (self.own / name).write_text(text)

    def keep_secret(self, name: str, secret: str | bytes) -> None:
        data = secret.encode() if isinstance(secret, str) else secret
        assert len(data) >= 16, name
        self.secrets[name] = data

    def command(self, *words: object, code: int = 0) -> str:
        """Run a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            run([str(word) for word in words])
        said = out.getvalue() + err.getvalue()
        self.told[f"{len(self.told)} {' '.join(map(str, words[:2]))}"] = said.encode()
        assert (ended.value.code or 0) == code, said
        return said

    def process(self, *words: object) -> None:
        """Run a command in a process of its own, to its end."""
        name = f"{len(self.told)} {words[0]}"
        whole = [sys.executable, "-m", "tidegate", *map(str, words)]
        done = subprocess.run(whole, env=self._env, capture_output=True, timeout=300, check=False)
        self.told[name] = done.stdout + done.stderr
        assert done.returncode == 0, done.stderr

    def shown(self, *words: object) -> str:
        """Run a command that is there to show a secret; what it says is kept nowhere."""
        with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
            run([str(word) for word in words])
        assert not ended.value.code
        return out.getvalue()

    def begin(self, name: str, *words: object) -> subprocess.Popen[bytes]:
        """Start a process that goes on; its words go to NAME.log."""
        with (self.place / f"{name}.log").open("wb") as log:
            whole = [sys.executable, "-m", *map(str, words)]
            self._running.append(subprocess.Popen(whole, env=self._env, stdout=log, stderr=log))
        return self._running[-1]

    def ask(self, client: httpx.Client, method: str, path: str, code: int, **more: Any) -> None:
        """Ask what has an error for an answer, or an answer that tells something."""
        reply = client.request(method, path, **more)
        assert reply.status_code // 100 == code // 100, reply.text
        self.told[f"{len(self.told)} {method} {path}"] = str(reply.headers).encode() + reply.content

    def end(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait(60)


def forms(secret: bytes) -> set[bytes]:
    """The secret itself, and as people and programs write bytes."""
    return {
        secret,
        secret.hex().encode(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
    }


def check_told(story: Story) -> None:
    """No command, process, answer or event may have told a secret."""
    for name, secret in story.secrets.items():
        found = [where for where, data in story.told.items() if any(form in data for form in forms(secret))]
        assert not found, f"{name} is told in {found}"


def check_files(story: Story, patterns: Iterable[str]) -> set[Path]:
    """Only these files may hold a secret, and for their owner's eyes alone; give those that do."""
    files = {path: path.read_bytes() for path in story.place.rglob("*") if path.is_file() and not path.is_symlink()}
    may = {path for pattern in patterns for path in story.place.glob(pattern)}
    holding: set[Path] = set()
    for name, secret in story.secrets.items():
        found = {path for path, data in files.items() if any(form in data for form in forms(secret))}
        assert found <= may, f"{name} lies in {[str(path) for path in found - may]}"
        holding |= found
    for path in holding:
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert path.parent.stat().st_mode & 0o777 == 0o700, path.parent
    return holding
