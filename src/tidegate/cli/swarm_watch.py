"""Runs the parts of a swarm and watches: how far its devices are, and what the server's memory does meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from tidegate.cli.swarm_board import Board
from tidegate.cli.swarm_play import Part, Played, play_process
from tidegate.cli.swarm_stage import SwarmStage

LOOK_S = 0.5
WARM_SHARE = 0.2
"""The first part of a load fills buffers and opens connections: the slope is that of the rest."""


@dataclass(slots=True)
class Watched:
    """What was seen of one load."""

    played: list[Played] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    stopped: bool = False
    """It was ended early."""

    @property
    def slope_bytes_per_s(self) -> float:
        """How fast the server's memory grows under load, by least squares after the first fifth."""
        return slope_per_s(self.at_s, self.memory_bytes)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is, as it is told while it runs."""

    seconds: float
    begun: int
    confirmed: int
    answers: int
    per_s: float
    """Answers in a second, since it was last told."""
    memory_bytes: int


def slope_per_s(at_s: Sequence[float], values: Sequence[float]) -> float:
    """Give the slope of values over time by least squares, the first fifth of the time left out; nan for too few."""
    at, value = np.asarray(at_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(at) < 3:
        return float("nan")
    late = at >= at[0] + WARM_SHARE * (at[-1] - at[0])
    at, value = at[late] - at[late].mean(), value[late]
    spread = float((at * at).sum())
    return float((at * value).sum() / spread) if spread else float("nan")


def watch(stage: SwarmStage, parts: list[Part], board: Board, tell: Callable[[Progress], None]) -> Watched:
    """Play all parts, each in a process of its own, to their end. An interrupt ends them early and keeps what is there.

    Raises:
        OSError: nobody listens.
    """
    found, before_s = Watched(), stage.cpu_s()
    with ProcessPoolExecutor(len(parts), mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(play_process, part) for part in parts]
        with _ended_by_interrupt(board):
            _look(stage, futures, board, found, tell)
            found.played = [future.result() for future in futures]
    found.stopped = board.stopped
    found.cpu_s = stage.cpu_s() - before_s
    return found


@contextlib.contextmanager
def _ended_by_interrupt(board: Board) -> Iterator[None]:
    """Take an interrupt, or several, as the word that all shall end: no exception, which would lose what is there."""
    before = signal.signal(signal.SIGINT, lambda *_: board.stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _look(
    stage: SwarmStage,
    futures: Sequence[Future[Played]],
    board: Board,
    found: Watched,
    tell: Callable[[Progress], None],
) -> None:
    started, last_s, last = time.monotonic(), 0.0, 0
    running = set(futures)
    while running:
        running = wait(running, timeout=LOOK_S).not_done
        begun, confirmed, answers = board.sums()
        now_s = time.monotonic() - started
        if begun:  # before that the processes start
            found.at_s.append(now_s)
            found.memory_bytes.append(stage.memory_bytes())
            per_s = (answers - last) / max(now_s - last_s, 1e-3)
            tell(Progress(now_s, begun, confirmed, answers, per_s, found.memory_bytes[-1]))
        last_s, last = now_s, answers
