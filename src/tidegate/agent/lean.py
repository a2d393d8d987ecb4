"""Keeps out of the agent's process what it never uses: memory for as long as it runs, and time at each start."""

from __future__ import annotations

import gc
import sys
from types import ModuleType

FETCHER = "tuf.ngclient.urllib3_fetcher"
SPENT = ("argparse", "gettext")


def leave_out() -> None:
    """Put an empty class in the place of tuf's own fetcher, so that urllib3 is not loaded: the agent has a transport.

    Called before anything of tuf is imported; where tuf is there already, it changes nothing.
    """
    if "tuf.ngclient" not in sys.modules:
        empty = ModuleType(FETCHER, "Left out: see tidegate.agent.lean.")
        empty.Urllib3Fetcher = type("Urllib3Fetcher", (), {})  # type: ignore[attr-defined]
        sys.modules[FETCHER] = empty


def let_go() -> None:
    """Drop what only read the command line; what is loaded next takes its room."""
    for name in SPENT:
        sys.modules.pop(name, None)
    gc.collect()
