"""The process: its signals, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from functools import partial
from queue import SimpleQueue
from types import FrameType

import anyio

from ollama_mcp.tools.upstreams.child_process import kill_children
from ollama_mcp.transports.pipes import post, start_thread

LAST_MOMENT = 0.85
"""Seconds after which the process ends on stdio, whatever still runs."""


class Stop:
    """The one way to end the process: asked for by a signal, the end of stdin, or a broken stdout.

    The first ask is heard by `asked` on the loop, which ends things in order, and by a watchdog
    thread, which does not wait for the loop: at the last moment the process is gone with status 0,
    even if a tool blocks the loop or a thread. The second signal has its default effect.

    Args:
        last_moment: Seconds between the first ask and that.
    """

    def __init__(self, last_moment: float = LAST_MOMENT) -> None:
        self._last_moment = last_moment
        self.eof = False
        self._asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard: anyio.Event | None = None
        self._alarm: SimpleQueue[None] = SimpleQueue()
        start_thread("watchdog", self._watch)

    def _watch(self) -> None:
        self._alarm.get()
        time.sleep(self._last_moment)
        kill_children()
        os._exit(0)

    def listen(self) -> None:
        """Take SIGINT, SIGTERM and Windows' SIGBREAK, also where the parent had them ignored."""
        if threading.current_thread() is threading.main_thread():
            self._be_woken()
            for signum in _signals():
                signal.signal(signum, self._on_signal)

    def _be_woken(self) -> None:
        """Hear of a signal beside its handler, which Python runs in the main thread and in no other moment.

        One that comes just before the event loop begins to wait, or that another thread gets, is only noted
        by Python until something else happens, which may be never; and while a tool blocks the main thread
        outside of Python no handler runs at all.
        """
        woken, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        start_thread("signals", partial(self._hear, woken))

    def _hear(self, woken: socket.socket) -> None:
        while numbers := woken.recv(64):
            if not set(numbers).isdisjoint(_signals()):
                self.ask()

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        for signum in _signals():
            signal.signal(signum, signal.SIG_DFL)
        self.ask()

    def ask(self, *, eof: bool = False) -> None:
        """Begin the end. Callable from any thread and from a signal handler: it takes no lock."""
        if not self._asked:
            self.eof = eof
        self._asked = True
        self._alarm.put(None)
        self._tell()

    def _tell(self) -> None:
        if self._loop is not None and self._heard is not None:
            post(self._loop, self._heard.set)

    async def asked(self) -> None:
        """Wait until somebody asks, and until the loop has taken in what the asking thread gave it before."""
        self._heard = anyio.Event()
        self._loop = asyncio.get_running_loop()
        if self._asked:
            self._tell()
        await self._heard.wait()


def _signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]
