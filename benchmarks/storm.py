"""What a soak calls: kinds of calls in random order, and what may become of each."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from faulty import FAULTS
from wires import Unanswered, Wire

MODEL = "llama3.2:3b"
EMBEDDER = "nomic-embed-text"
_HANDLE = re.compile(r'handle="([0-9a-f]{32})"')

RAN = frozenset({"ran"})
BROKEN = frozenset({
    "UNREACHABLE", "NOT_OLLAMA", "TIMEOUT", "BUSY", "RATE_LIMITED", "UPSTREAM", "BAD_UPSTREAM",
    "STREAM_BROKEN", "TRUNCATED", "MODEL_NOT_FOUND",
})  # fmt: skip
"""What an Ollama that fails may make of any call; lookups fail for all, and a restart breaks what goes on."""

WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("ollama_chat", {"prompt": "brief", "options": {"temprature": 1}}, "UNKNOWN_OPTION"),
    ("ollama_chat", {"prompt": "brief", "options": {"temperature": "hot"}}, "INVALID_ARGUMENT"),
    ("ollama_chat", {"prompt": "brief", "modle": MODEL}, "INVALID_ARGUMENT"),
    ("ollama_chat", {}, "INVALID_ARGUMENT"),
    ("ollama_chat", {"prompt": "brief", "messages": 5}, "INVALID_ARGUMENT"),
    ("ollama_generate", {}, "INVALID_ARGUMENT"),
    ("ollama_embeddings", {"input": []}, "INVALID_ARGUMENT"),
    ("ollama_embeddings", {"input": ["brief"], "vectors": "some"}, "INVALID_ARGUMENT"),
    ("ollama_generate", {"prompt": "x" * (1 << 20) + "x"}, "TOO_LARGE"),
    ("ollama_continue", {"handle": "0" * 32}, "UNKNOWN_HANDLE"),
    ("ollama_cancel", {"handle": "\ud800"}, "UNKNOWN_HANDLE"),
    ("ollama_chat", {"prompt": "brief", "model": "qwen3:cloud"}, "FORBIDDEN"),
)


@dataclass
class CallStats:
    """What has become of the calls.

    Attributes:
        calls: All of them.
        faults: Those that were sent to meet a fault.
        ends: How each kind of call ended.
        wrong: What may not be, in words.
    """

    calls: int = 0
    faults: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    wrong: list[str] = field(default_factory=list[str])


class Caller:
    """Calls, and tallies what comes of it."""

    def __init__(self, wire: Wire, dice: random.Random, tally: CallStats) -> None:
        self.wire = wire
        self.dice = dice
        self.tally = tally

    async def request(
        self,
        kind: str,
        method: str,
        params: dict[str, Any],
        may: frozenset[str],
        leave_s: float | None = None,
    ) -> str:
        """One request; returns the text of its result, which is empty where it has none."""
        self.tally.calls += 1
        try:
            message = await self.wire.exchange(method, params, leave_s)
        except Unanswered as error:
            self.tally.wrong.append(f"never answered: {error}"[:300])
            return ""
        end, text = _end(message)
        self.tally.ends[kind, end] += 1
        if end not in may:
            self.tally.wrong.append(f"{kind} ended as {end}: {params} got {message}"[:600])
        return text

    async def call(
        self,
        kind: str,
        tool: str,
        arguments: dict[str, Any],
        may: frozenset[str] = RAN | BROKEN,
        leave_s: float | None = None,
    ) -> str:
        """One call of a tool, every fourth with progress."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if self.dice.random() < 0.25:
            params["progress"] = True
        return await self.request(kind, "tools/call", params, may, leave_s)


def _end(message: dict[str, Any] | None) -> tuple[str, str]:
    """How a request ended in one word, and what it says."""
    if message is None:
        return "left", ""
    if "result" not in message:
        return str(message["error"]["code"]), message["error"]["message"]
    content = message["result"].get("content") or [{}]
    text = content[0].get("text", "")
    if message["result"].get("isError"):
        return text.partition(":")[0], text
    return "ran", text


# --- the kinds ----------------------------------------------------------------------------------


def _words(caller: Caller, word: str) -> tuple[str, dict[str, Any]]:
    """A call that generates, or embeds, with this first word."""
    prompt = f"{word} {caller.tally.calls}"
    return caller.dice.choice([
        ("ollama_chat", {"prompt": prompt, "model": MODEL}),
        ("ollama_chat", {"messages": [{"role": "user", "content": prompt}], "system": "Be kind."}),
        ("ollama_generate", {"prompt": prompt, "model": MODEL, "options": {"temperature": 0}}),
        ("ollama_embeddings", {"input": [prompt, "another text"], "model": EMBEDDER}),
    ])  # fmt: skip


async def brief(caller: Caller) -> None:
    """A call that is answered at once."""
    await caller.call("brief", *_words(caller, "brief"))


async def at_length(caller: Caller) -> None:
    """An answer that comes in pages, and the second one of them."""
    text = await caller.call("long", "ollama_chat", {"prompt": "long", "model": MODEL})
    if handle := _HANDLE.search(text):
        await caller.call("page", "ollama_continue", {"handle": handle[1], "page": 2}, _KEPT)


async def several(caller: Caller) -> None:
    """A tool that asks more than once."""
    tool, given = caller.dice.choice([
        ("ollama_rank", {"query": "brief", "candidates": ["one", "two"], "model": EMBEDDER}),
        ("ollama_compare", {"prompt": "brief", "models": [MODEL]}),
        ("ollama_embeddings", {"input": ["brief"], "model": EMBEDDER, "vectors": "base64"}),
    ])  # fmt: skip
    # A comparison of which no model answers begins with FAILED, and has each one's failure below.
    await caller.call("several", tool, given, RAN | BROKEN | {f"## {MODEL.partition(':')[0]}", "FAILED"})


async def lookup(caller: Caller) -> None:
    """Lists, models, the status."""
    await caller.call("lookup", *caller.dice.choice([
        ("ollama_list_models", {}),
        ("ollama_show_model", {"model": MODEL}),
        ("ollama_status", {}),
    ]))  # fmt: skip


async def wrong(caller: Caller) -> None:
    """Arguments that no server should take."""
    tool, arguments, code = caller.dice.choice(WRONG)
    await caller.call("wrong", tool, arguments, frozenset({code}))


async def beside(caller: Caller) -> None:
    """What is no call of a tool, or of none that there is."""
    await caller.request("beside", *caller.dice.choice([
        ("tools/list", {}, RAN),
        ("resources/list", {}, RAN | {"-32603"}),
        ("prompts/list", {}, RAN),
        ("prompts/get", {"name": "nothing"}, frozenset({"-32602"})),
        ("resources/read", {"uri": "ollama://nothing"}, frozenset({"-32602"})),
        ("tools/call", {"name": "ollama_fly", "arguments": {}}, frozenset({"Unknown tool"})),
        ("no/method", {}, frozenset({"-32601"})),
    ]))  # fmt: skip


async def visiting(caller: Caller) -> None:
    """Somebody who comes and goes."""
    await caller.wire.visit()


async def failing(caller: Caller) -> None:
    """A call that meets a fault; what was written until then is asked for by its handle."""
    caller.tally.faults += 1
    tool, arguments = _words(caller, caller.dice.choice(tuple(FAULTS)))
    text = await caller.call("failing", tool, arguments)
    if handle := _HANDLE.search(text):
        await caller.call("rest", "ollama_continue", {"handle": handle[1], "partial": True}, _KEPT)


async def left(caller: Caller) -> None:
    """A call that is cancelled at a random moment."""
    await caller.call("left", *_words(caller, "slow"), RAN | BROKEN | {"left"}, caller.dice.uniform(0, 0.2))


async def handed(caller: Caller) -> None:
    """A call that goes on under its handle, and is then waited for or stopped."""
    arguments = {"prompt": "slow", "model": MODEL, "wait_s": 0.05}
    text = await caller.call("handed", "ollama_chat", arguments)
    handle = _HANDLE.search(text)
    if not handle or not text.startswith("STILL RUNNING"):
        return
    given = {"handle": handle[1]}
    await caller.call("so far", "ollama_continue", given | {"partial": True}, _KEPT)
    if caller.dice.random() < 0.5:
        await caller.call("stopped", "ollama_cancel", given, _KEPT)
    elif caller.dice.random() < 0.7:
        await caller.call("continued", "ollama_continue", given, _KEPT)


_KEPT = RAN | BROKEN | {"UNKNOWN_HANDLE"}
"""By a handle; 64 Jobs are kept, and the others have pushed it out where they are many."""

Kind = Callable[[Caller], Awaitable[None]]

SHARES: dict[Kind, int] = {
    brief: 40, at_length: 3, several: 3, lookup: 14, wrong: 8, beside: 3, visiting: 1, failing: 12, left: 14,
    handed: 4,
}  # fmt: skip
"""Of every hundred."""


def next_kind(dice: random.Random) -> Kind:
    """One of them, by its share."""
    return dice.choices(tuple(SHARES), tuple(SHARES.values()))[0]
