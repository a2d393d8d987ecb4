"""The agent as a process: its home held, its signals heard, its end in time."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from types import FrameType

from tidegate import __version__
from tidegate.agent.clock import SystemClock
from tidegate.agent.config import Home, HomeLock
from tidegate.agent.launch import AGAIN
from tidegate.agent.loop import Agent
from tidegate.agent.own import Restart
from tidegate.agent.say import Log, StatusFile
from tidegate.agent.tools import make_tools
from tidegate.core.errors import BadInput, TidegateError
from tidegate.core.printable import one_line

END_WITHIN_S = 0.9
STOP_COMPONENT_WITHIN_S = 15.0


class Ended(BaseException):
    """A signal asked for the end. Raised wherever the agent is: every place is one where power may be lost, too."""


def run(home_path: Path, once: bool, stop_component: bool, verbose: bool) -> int:
    """Be the agent of one home; give the process's exit code."""
    say = Log(verbose=verbose)
    home = Home(home_path.absolute())  # what it starts runs in directories of its own
    try:
        tools = make_tools(home, say, SystemClock(), random.Random())
        with HomeLock(home):
            return _run(Agent(tools), once, stop_component)
    except BadInput as error:
        if home.path.is_dir():
            StatusFile(home.status_file).ended(str(error))
        sys.stderr.write(f"tidegate agent: {one_line(str(error))}\n")
        return 2
    except TidegateError as error:
        sys.stderr.write(f"tidegate agent: {one_line(str(error))}\n")
        return 1


def _run(agent: Agent, once: bool, stop_component: bool) -> int:
    within_s = STOP_COMPONENT_WITHIN_S if stop_component else END_WITHIN_S
    _end_on_signals(within_s)
    own = {"version": __version__, "slot": agent.tools.own.slot}
    agent.tools.say("begins", device_id=agent.tools.identity.device_id, pid=os.getpid(), **own)
    code = 0
    try:
        if once:
            code = 0 if agent.run_once() else 1
        else:
            agent.run()
    except Restart:
        agent.tools.say("restarts")
        code = AGAIN
    except Ended:
        agent.tools.say("ends")
        if stop_component:
            agent.stop_components()
    agent.tools.server.close()
    return code


def _end_on_signals(within_s: float) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        if hasattr(signal, "setitimer"):  # if a driver swallows the exception, leave all the same
            signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
            signal.setitimer(signal.ITIMER_REAL, within_s)
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_IGN)
        raise Ended

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
