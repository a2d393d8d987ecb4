#!/usr/bin/env python3
"""Sets Tidegate up on a bare machine and runs its commands. Standard library only.

usage: python3 dev.py COMMAND [ARGS]

    setup                     make .venv from the lock files; the other commands do this by themselves
    demo [ARGS]               tidegate demo: a good update to everyone, then a faulty one that is contained
    test [--all] [ARGS]       every check, then the tests; --all adds the slow ones
    test --room NAME [ARGS]   the tests of one room alone; a path or -k among ARGS narrows likewise
    package [--yara]          the device's agent as one file: dist/tidegate-agent.pyz
    bench [NAME] [--json]     benchmarks, each against a reference measured in the same run
    lint                      ruff (rules and format) and the rooms' import rules
    typecheck                 the type checker, for the oldest and the newest Python
    lock                      resolve the dependencies again and write the lock files
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
TOOLS = ROOT / ".tools"
STAMP = VENV / "tidegate-setup.json"
LOCK, UV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-uv.lock"

OLDEST, NEWEST = "3.11", "3.13"
LEAST_UV = (0, 9)

# Optional system packages: what for, and the program whose presence tells.
SYSTEM = {
    "bubblewrap": ("the gate runs releases in a sandbox", "bwrap"),
    "strace": ("crash tests stop a device at a chosen system call", "strace"),
}
# The same, but large: installed when all tests are run, not by set-up.
FOR_TESTS = {
    "chromium": ("a browser opens the pages", "chromium"),
    "clamav": ("the clamav driver and the gate scan with the real engine", "clamscan"),
    "clamav-daemon": ("the clamav driver reloads a real daemon", "clamd"),
    "e2fsprogs": ("crash tests, disk tests and the little machine make file systems", "mke2fs"),
    "iproute2": ("networks of a test's own, whose cables are pulled", "ip"),
    "mount": ("file systems of a test's own, filled up and stopped", "mount"),
    "nats-server": ("the replicated log runs on a real cluster", "nats-server"),
    "nginx": ("static files are served by a common web server, to compare with", "nginx"),
    "npm": ("an independent client reads the repository", "npm"),
    "prometheus": ("its own tool checks the rules and the figures", "promtool"),
    "postgresql": ("the log runs on a real PostgreSQL", "pg_ctlcluster"),
    "qemu-system-x86": ("a machine boots a faulty release and heals itself", "qemu-system-x86_64"),
}


class Stop(Exception):
    """Ends the run with one clear line on stderr."""

    def __init__(self, line: str, code: int = 2):
        super().__init__(line)
        self.code = code


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def program(name: str) -> str:
    return str(BIN / (name + (".exe" if os.name == "nt" else "")))


# --- set-up ---------------------------------------------------------------------------------------------------------


def fingerprint() -> dict[str, str]:
    """What the environment was made from, in two parts: a new `venv` part means rebuild, a new `content` part sync."""
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        made_of = tomllib.load(file)
    # The settings of ruff, pytest and the like are no reason to install anything again.
    made_of.pop("tool", None)
    content = hashlib.sha256(LOCK.read_bytes() + json.dumps(made_of, sort_keys=True).encode())
    whole = all(map(os.path.exists, (program("python"), program("tidegate"))))
    python = os.path.realpath(program("python")) if whole else "incomplete"
    return {"venv": f"{sys.version_info[0]}.{sys.version_info[1]} {python} {VENV}", "content": content.hexdigest()}


def setup() -> None:
    """Make `.venv` what the lock file says. Nothing to do takes a few milliseconds; interrupted, it starts over."""
    if sys.version_info < (3, 11):  # noqa: UP036  (someone may well call it with an older one)
        raise Stop(
            f"Tidegate needs Python {OLDEST} or newer, and this is {sys.version.split()[0]}: use a newer python3"
        )
    if _stamped() == fingerprint():
        return
    TOOLS.mkdir(exist_ok=True)
    with _alone():
        was, now = _stamped(), fingerprint()
        if was == now:  # another run did it while this one waited
            return
        started = time.monotonic()
        with contextlib.suppress(OSError):  # .venv may be anything
            STAMP.unlink()
        system_packages(SYSTEM)
        build_environment(fresh=was.get("venv") != now["venv"])
        STAMP.write_text(json.dumps(fingerprint()))
        say(f"setup: done in {time.monotonic() - started:.1f} s")


def build_environment(fresh: bool) -> None:
    uv, config = find_uv(), pip_config()
    env = uv_environment(config)
    if fresh:
        say(f"setup: making {VENV.name} with Python {sys.version.split()[0]}")
        base = getattr(sys, "_base_executable", None) or sys.executable
        if VENV.is_symlink() or VENV.is_file():
            VENV.unlink()
        elif VENV.exists():  # half made, or another Python's
            shutil.rmtree(VENV)
        _uv([uv, "venv", "--python", base, str(VENV)], env)
    say("setup: installing what requirements.lock names")
    into = ["--python", program("python"), *uv_sources(config)]
    _uv([uv, "pip", "sync", *into, "--require-hashes", str(LOCK)], env)
    _uv([uv, "pip", "install", *into, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], env)


def _stamped() -> dict[str, str]:
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Two runs in one tree take turns, where the system can lock files."""
    with (TOOLS / "setup.lock").open("w") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _uv(command: list[str], env: dict[str, str]) -> None:
    if subprocess.run([command[0], "--quiet", "--no-config", *command[1:]], env=env, cwd=ROOT).returncode:
        raise Stop(
            f"setup failed at: {shlex.join(Path(word).name for word in command[:3])} (its own words are above)", 1
        )


# --- uv, which pip brings, and pip's own configuration ---------------------------------------------------------------


def find_uv() -> str:
    """The uv on the path if it is new enough; else one that pip fetches by its hashes into `.tools`."""
    found = shutil.which("uv")
    if found and _uv_version(found) >= LEAST_UV:
        return found
    home = TOOLS / f"uv-{hashlib.sha256(UV_LOCK.read_bytes()).hexdigest()[:12]}"
    uv = home / "bin" / ("uv.exe" if os.name == "nt" else "uv")
    if not uv.exists():
        say("setup: fetching uv")
        half = home.with_suffix(".half")
        for old in (half, home):
            shutil.rmtree(old, ignore_errors=True)
        pip = [*need_pip(), "install", "--quiet", "--no-cache-dir", "--root-user-action=ignore", "--target", str(half)]
        command = [*pip, "--require-hashes", "--only-binary=:all:", "-r", str(UV_LOCK)]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise Stop("setup failed: pip could not fetch uv (its own words are above)", 1)
        half.rename(home)
    return str(uv)


def _uv_version(uv: str) -> tuple[int, ...]:
    try:
        out = subprocess.run([uv, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return ()
    return tuple(map(int, re.findall(r"\d+", out)[:2]))


def find_pip() -> list[str]:
    """The command that runs pip, or an empty list. An environment that uv made has none, but its base may."""
    for python in dict.fromkeys([sys.executable, getattr(sys, "_base_executable", None) or sys.executable]):
        if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return [python, "-m", "pip"]
    return []


def need_pip() -> list[str]:
    """The command that runs pip, which Debian's Python gets from apt where that is allowed."""
    debian = sys.base_prefix == "/usr" and shutil.which("apt-get")
    found = find_pip() or (debian and apt_install(["python3-pip"]) and find_pip())
    if found:
        return found
    how = "apt-get install python3-pip" if debian else f"{sys.executable} -m ensurepip"
    raise Stop(f"{sys.executable} has no pip, which the set-up needs once: run '{how}' and try again")


def pip_config() -> dict[str, str]:
    """What pip is configured with; what is set for all commands yields to `pip install`'s own, and that to PIP_*."""
    pip = find_pip()
    if not pip:  # a uv on the path does without
        return {}
    return parse_pip_config(subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout)


def parse_pip_config(listing: str) -> dict[str, str]:
    """Read the lines `section.key='value'` of `pip config list`."""
    sections: dict[str, dict[str, str]] = {}
    for section, key, value in re.findall(r"^([^.\n]+)\.([\w-]+)=(.*)$", listing, re.MULTILINE):
        sections.setdefault(section, {})[key] = str(ast.literal_eval(value))
    return {**sections.get("global", {}), **sections.get("install", {}), **sections.get(":env:", {})}


def uv_environment(config: dict[str, str]) -> dict[str, str]:
    """The environment in which uv asks the same index in the same way as pip; what is set for uv itself wins."""
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON")}
    same = {"index-url": "UV_INDEX_URL", "extra-index-url": "UV_EXTRA_INDEX_URL", "cert": "SSL_CERT_FILE"}
    same |= {"proxy": "ALL_PROXY", "trusted-host": "UV_INSECURE_HOST", "client-cert": "SSL_CLIENT_CERT"}
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX"}.isdisjoint(env):
        del same["index-url"], same["extra-index-url"]
    for key, variable in same.items():
        if config.get(key):
            env.setdefault(variable, " ".join(config[key].split()))
    env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip does; the hashes decide what is installed
    env.setdefault("UV_PYTHON_DOWNLOADS", "never")
    env.setdefault("UV_LINK_MODE", "copy" if os.name == "nt" else "hardlink")
    if not os.access(Path.home() if Path.home().exists() else Path.home().parent, os.W_OK):
        env.setdefault("UV_CACHE_DIR", str(TOOLS / "cache"))
    return env


def uv_sources(config: dict[str, str]) -> list[str]:
    """Options for pip's find-links and no-index. pip passes over a folder that is missing, uv does not."""
    links = [link for link in config.get("find-links", "").split() if "://" in link or Path(link).is_dir()]
    no_index = config.get("no-index", "").lower() in ("1", "true", "yes", "on")
    return [*(word for link in links for word in ("--find-links", link)), *(["--no-index"] if no_index else [])]


# --- system packages ------------------------------------------------------------------------------------------------


def system_packages(table: dict[str, tuple[str, str]]) -> None:
    """Install what is missing as root on Debian, name it elsewhere. All are optional, so nothing fails here."""
    missing = [name for name, (_, probe) in table.items() if not shutil.which(probe)]
    if not sys.platform.startswith("linux") or not missing or apt_install(missing):
        return
    for name in missing:
        say(f"setup: optional and missing: {name} ({table[name][0]}); on Debian: apt-get install {name}")


def apt_install(names: list[str]) -> bool:
    """Install Debian packages if this is root on Debian; whether they are there afterwards."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return False
    say(f"setup: installing the system packages {' '.join(names)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "--no-install-recommends", *names]

    def run(command: list[str]) -> bool:
        return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0

    return run(install) or (run(["apt-get", "update"]) and run(install))


# --- commands -------------------------------------------------------------------------------------------------------

if TYPE_CHECKING:  # an old Python must get as far as the line that says so
    Step = tuple[str, list[str]]

LINT: list[Step] = [
    ("ruff check", [program("ruff"), "check", "--quiet"]),
    ("ruff format", [program("ruff"), "format", "--check"]),
    ("import rules", [program("lint-imports"), "--no-logo"]),
]
TYPES: list[Step] = [
    (f"types, Python {version}", [program("basedpyright"), "--pythonversion", version]) for version in (OLDEST, NEWEST)
]


def checks(steps: list[Step]) -> list[str]:
    """Run checks two at a time, print what a failed one says, and return the names of those that failed."""
    from concurrent.futures import ThreadPoolExecutor

    def run(step: Step) -> tuple[str, float, int, str]:
        started = time.monotonic()
        done = subprocess.run(step[1], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return step[0], time.monotonic() - started, done.returncode, done.stdout

    failed: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        for name, took_s, code, output in pool.map(run, steps):
            print(f"{name:.<26} {'FAILED' if code else 'ok'} in {took_s:.1f} s", flush=True)
            if code:
                failed.append(name)
                print(output, flush=True)
    return failed


def closing(failed: list[str]) -> int:
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def test(args: list[str]) -> int:
    """All checks and all tests; or, narrowed to a room, a path or an expression, those tests alone."""
    pointed = any(
        arg in ("-k", "-m", "--lf", "--last-failed") or Path(ROOT, arg.split("::")[0]).exists() for arg in args
    )
    room = any(arg.split("=")[0] == "--room" for arg in args)
    if not (pointed or room):
        system_packages(FOR_TESTS)
    failed = [] if pointed or room else checks([*LINT, *TYPES])
    # Two workers suit the tests that start processes of their own; what says xdist_group stays in one.
    many = [] if pointed else ["-n", "auto", "--maxprocesses", "2", "--dist", "loadgroup"]
    coverage = [] if pointed or room else ["--cov", "--cov-report=term"]
    print("pytest", flush=True)
    code = subprocess.run([program("python"), "-m", "pytest", *many, *coverage, *args], cwd=ROOT).returncode
    if code == 4:  # pytest's own word for a usage error
        return 2
    return closing([*failed, *(["pytest"] if code else [])])


def run_instead(command: list[str]) -> int:
    """Become another program, so that Ctrl-C and signals reach it alone."""
    if not Path(command[0]).exists():
        raise Stop(f"{command[0]} is missing: delete .venv and run 'python3 dev.py setup'", 1)
    if os.name != "nt":
        os.execv(command[0], command)
    return subprocess.run(command).returncode


def bench(args: list[str]) -> int:
    if not (ROOT / "bench" / "__main__.py").exists():
        raise Stop("there are no benchmarks yet: bench/__main__.py is missing", 1)
    os.chdir(ROOT)
    return run_instead([program("python"), "-m", "bench", *args])


def lock() -> int:
    """Resolve for every supported Python and system at once. No index is written, so that any mirror will do."""
    uv, config = find_uv(), pip_config()
    env = uv_environment(config)
    quiet = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    same = ["--universal", "--python-version", OLDEST, "--generate-hashes", *quiet, *uv_sources(config), "--upgrade"]
    _uv(
        [uv, "pip", "compile", *same, "--group", "dev", "--all-extras", "pyproject.toml", "--output-file", str(LOCK)],
        env,
    )
    _uv([uv, "pip", "compile", *same, "--group", "bootstrap", "--output-file", str(UV_LOCK)], env)
    return 0


def main(argv: list[str]) -> int:
    commands = {
        "setup": lambda args: 0,
        "demo": lambda args: run_instead([program("tidegate"), "demo", *args]),
        "test": test,
        "bench": bench,
        "package": lambda args: run_instead([program("python"), str(ROOT / "packaging" / "build_agent.py"), *args]),
        "lint": lambda args: closing(checks(LINT)),
        "typecheck": lambda args: closing(checks(TYPES)),
    }
    name, args = (argv[0], argv[1:]) if argv else ("", [])
    if name in ("help", "-h", "--help"):
        print((__doc__ or "").rstrip())
        return 0
    if name not in (*commands, "lock"):
        raise Stop(f"dev.py knows {', '.join([*commands, 'lock'])}, not {name!r}; --help says more")
    if args and name in ("setup", "lint", "typecheck", "lock"):
        raise Stop(f"dev.py {name} takes no arguments, but got {' '.join(args)!r}")
    if name == "lock":  # before set-up, which may need the new lock
        TOOLS.mkdir(exist_ok=True)
        return lock()
    setup()
    return commands[name](args)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Stop as stop:
        say(f"dev.py: {stop}")
        sys.exit(stop.code)
    except OSError as error:  # a full disk, a tree that belongs to someone else
        say(f"dev.py: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("dev.py: interrupted")
        sys.exit(130)
