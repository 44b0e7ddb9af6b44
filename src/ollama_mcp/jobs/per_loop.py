"""State of an event loop, and work that several callers share."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """A value for each event loop, made when that loop first wants it.

    Args:
        make: Makes one; called on the loop that it is for.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._things: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def here(self) -> T:
        """Return the value of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._things:
            for ended in [other for other in self._things if other.is_closed()]:
                del self._things[ended]  # a thing may hold its loop, so that the weak key alone is not enough
            self._things[loop] = self._make()
        return self._things[loop]

    def __len__(self) -> int:
        """Return the number of loops that have a value."""
        return len(self._things)

    def pop(self) -> T | None:
        """Take away that of the running loop, if there is one."""
        return self._things.pop(asyncio.get_running_loop(), None)


@dataclass
class _Flight:
    task: asyncio.Task[Any]
    waiting: int = 0


class SingleFlight:
    """Work that several callers want at once is done once, and all of them get what came of it.

    It is cancelled when the last of them is. A failure reaches each as a copy of its own, so that
    what one does to it is not seen by the others.
    """

    def __init__(self) -> None:
        self._flights: PerLoop[dict[Hashable, _Flight]] = PerLoop(dict[Hashable, _Flight])

    async def do(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do `work`, or wait for it where somebody does it already.

        Args:
            key: What makes two pieces of work the same.
            work: Begins it.
        """
        flights = self._flights.here()
        flight = flights.get(key)
        if flight is None:
            flight = flights[key] = _Flight(asyncio.get_running_loop().create_task(work()))
            flight.task.add_done_callback(_asked)
        flight.waiting += 1
        try:
            await asyncio.wait([flight.task])
        finally:
            flight.waiting -= 1
            if flights.get(key) is flight and (flight.task.done() or not flight.waiting):
                del flights[key]  # nobody may join what has ended or is being cancelled
            if not flight.waiting:
                flight.task.cancel()
        error = flight.task.exception()
        if error is not None:
            raise own_copy(error) from None
        return cast("T", flight.task.result())


@dataclass
class _Going(Generic[T]):
    """Background work of one event loop."""

    task: asyncio.Task[T] | None = None


class Background(Generic[T]):
    """Work that goes on in the background, once at a time on each event loop, when nobody waits any more.

    Args:
        work: Begins it.
        spawn: Holds it until it ends.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        spawn: Callable[[Coroutine[Any, Any, T]], asyncio.Task[T]],
    ) -> None:
        self._work = work
        self._spawn = spawn
        self._going: PerLoop[_Going[T]] = PerLoop(_Going[T])

    async def run(self, patience_s: float | None) -> asyncio.Task[T]:
        """Begin it, or join what goes on; wait so many seconds for its end, and return its task."""
        going = self._going.here()
        if going.task is None or going.task.done():
            going.task = self._spawn(self._work())
            going.task.add_done_callback(_asked)
        task = going.task  # several may wait for it, and each tells what came of it
        await asyncio.wait([task], timeout=patience_s)
        return task


def own_copy(error: BaseException) -> BaseException:
    """The same failure for one of those whom it reaches, with the place where it happened.

    As it is where it cannot be copied: some exceptions cannot be made of what they say of themselves.
    """
    try:
        return copy.copy(error).with_traceback(error.__traceback__)
    except TypeError:
        return error


def _asked(task: asyncio.Task[Any]) -> None:
    """Asking for the exception tells asyncio that nobody else has to: all may have gone."""
    if not task.cancelled():
        task.exception()
