"""FakeOllama: the pretended Ollama on a real socket."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable
from pathlib import Path

from ollama_mcp.ollama_server.api_answers import JSON
from ollama_mcp.ollama_server.http_connections import Connection
from ollama_mcp.ollama_server.http_messages import Request, whole_bytes
from ollama_mcp.ollama_server.installed_models import Model
from ollama_mcp.testing.fake_endpoints import ROUTES, respond
from ollama_mcp.testing.faults import StepPlayer
from ollama_mcp.testing.listener import Listener
from ollama_mcp.testing.recordings import Cassette, Exchange
from ollama_mcp.testing.scripted_backend import World
from ollama_mcp.testing.scripts import MODEL_RUNS, How, Rule, Script, Scripted, default_paths

BUSY = "server busy, please try again.  maximum pending requests exceeded"


class FakeOllama(World, Listener):
    """An Ollama server that answers as it is told to, and remembers what it was asked.

    In an asyncio program `async with FakeOllama() as fake:`; in anything else, and for tests that
    start child processes, `with FakeOllama.in_thread() as fake:`. Everything but `start`, `stop` and
    `wait_for` may be used from any thread. All attributes may be changed between requests.

    Args:
        models: What is installed. None (the default) is `llama3.2:3b` for chat and
            `nomic-embed-text:latest` for embedding.
        host: The address to listen on.
        port: The port to listen on; 0 (the default) takes a free one.
        version: What it claims to be. An older version brings back the behaviour of its time, as far
            as it changed with 0.3, 0.6.4, 0.12.6 and 0.30.
        window: The context window that a model is loaded with, in tokens, unless a call says num_ctx;
            never more than the model's own. 4096 by default.
        parallel: Requests that one model runs at a time, the others waiting in silence; None (the
            default) is no limit.

    Attributes:
        strict: Whether the fixture `fake_ollama` fails a test that leaves a script, or one of its answers,
            unused. True by default.
        host: As above, from the next start on.
        port: As above; once it has started, the port that it has got.
        version: As above.
        window: As above.
        parallel: As above.
        models: What is installed, by short name (with a tag); `add_model` adds to it.
        registry: What a pull installs, by short name, empty at first. A name that is not in it gives
            a plain chat model, or an embedding one if it has `embed`, `minilm` or `bge` in it.
        pull_script: The lines of every pull; None (the default) makes some up. The model is installed
            when a line's `status` is "success".
        blobs: Uploaded blobs by digest (`sha256:` and 64 hexadecimal digits), empty at first.
        scripts: The rules that `script`, `busy` and `replay` made; `scripts.clear()` forgets them all.
    """

    def __init__(
        self,
        models: Iterable[Model] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        version: str = "0.33.0",
        window: int = 4096,
        parallel: int | None = None,
    ) -> None:
        self.strict = True
        self._player = StepPlayer()
        World.__init__(self, models, version=version, window=window, parallel=parallel)
        Listener.__init__(self, host, port)

    # What it answers.

    def script(
        self,
        first: Scripted,
        *then: Scripted,
        path: str | Collection[str] | None = None,
        method: str | None = None,
        model: str | None = None,
        times: int | None = None,
    ) -> Rule:
        """Answer requests so from now on. The youngest script that matches wins.

            fake.script("Hello from a fake.")
            fake.script(Script(tool_calls=[{"name": "add", "arguments": {"a": 1}}]), "It is 2.")

        Args:
            first: The answer, a text alone, or a function that makes either of the Request.
            then: The answers to the requests after that; the last one stays.
            path: For these paths only. None is chat and generate for a text, a function and a script
                with tokens, thinking, tool calls or the like; it is every path for a mere status or fault.
            method: For this HTTP method only.
            model: For this model only.
            times: For so many requests in all; None is for ever.

        Returns:
            The rule, whose `used` counts the requests that it has answered.

        Raises:
            TypeError: One of them is no script.
            ValueError: Ollama has no such path.
        """
        paths = [path] if isinstance(path, str) else path
        for one in paths or ():
            _check_path(one)
        scripts = [first, *then]
        paths = paths or default_paths(scripts)
        return self.scripts.add(scripts, paths=paths, method=method, model=model, times=times)

    def busy(self, times: int | None = 1) -> Rule:
        """Answer the next requests that would run a model with the 503 of a full queue.

        Args:
            times: So many of them, whatever is scripted; None is all, until a script that comes after this.
        """
        script = Script(status=503, body={"error": BUSY}, headers={"Content-Type": JSON})
        return self.scripts.add([script], paths=MODEL_RUNS, times=times, is_first=times is not None)

    def replay(self, exchange: Exchange | str | Path, as_recorded_timing: bool = False) -> Exchange:
        """Answer the next request of the same method and path with a recording, byte for byte.

        Args:
            exchange: A recording or the path of its file.
            as_recorded_timing: With the pauses that the real server made.

        Returns:
            The recording.
        """
        played = exchange if isinstance(exchange, Exchange) else Exchange.load(exchange)
        script = played.script(as_recorded_timing=as_recorded_timing)
        paths = [played.request.path]
        self.scripts.add([script], paths=paths, method=played.request.method, times=1)
        return played

    def replay_all(self, folder: str | Path, as_recorded_timing: bool = False) -> Rule:
        """Answer every request from now on with the recording of an equal one, and with nothing else.

        Equal are the method, the path and the body, read as JSON. Several recordings of equal requests
        are played in the order of their numbers, and the last one stays. A request that was not recorded
        gets HTTP 501 and an error that says how it differs from those that were.

        Args:
            folder: What a `Recorder` has written.
            as_recorded_timing: With the pauses that the real server made.

        Returns:
            The rule, whose `used` counts the requests that it has answered.

        Raises:
            OSError: the folder, or a file in it, cannot be read.
            ValueError: there is no recording in it, or a file is none.
        """
        return self.scripts.add([Cassette(folder, as_recorded_timing=as_recorded_timing).script])

    def release(self) -> None:
        """Let go of all answers that `Script(hold_after_tokens=...)` holds, now and from now on."""
        self._in_loop(lambda _: self._player.released.set())

    def drop_connections(self, how: How = "reset") -> None:
        """Break off every open connection, as when the server dies; it goes on listening."""
        self._in_loop(lambda server: server.drop(reset=how == "reset"))

    # What it was asked.

    @property
    def last(self) -> Request:
        """The last request that asked a model: a chat, a generation or an embedding.

        Raises:
            LookupError: There was none; it says what there was.
        """
        asked = [request for request in self.requests if request.path in MODEL_RUNS]
        if not asked:
            seen = ", ".join(dict.fromkeys(f"{request.method} {request.path}" for request in self.requests))
            raise LookupError(f"no model was asked yet; there was {seen or 'no request at all'}")
        return asked[-1]

    def check(self) -> None:
        """See that every answer of every script was used; the fixture `fake_ollama` does so at its end.

        Raises:
            AssertionError: One was not, with what was asked.
        """
        unused = [_told(rule) for rule in self.scripts.unused]
        if unused:
            seen = ", ".join(dict.fromkeys(f"{request.method} {request.path}" for request in self.requests))
            raise AssertionError(
                f"nobody asked for what was scripted: {'; '.join(unused)}; there was {seen or 'no request'}"
            )

    async def start(self) -> None:
        """Listen, as every `Listener`; what was released holds again."""
        self._player = StepPlayer()
        await super().start()

    async def _respond(self, request: Request, connection: Connection) -> bool:
        try:
            is_local = self.host in {"127.0.0.1", "::1", "localhost"}
            steps = respond(self, request, close=request.wants_close, checks_host=is_local)
        except Exception as error:  # a function that was to make the answer
            body = json.dumps({"error": f"your script raised {error!r}"}).encode()
            await connection.send(whole_bytes(500, {"Content-Type": JSON}, body, close=True))
            connection.close()
            raise
        return await self._player.play(steps, connection)


def _check_path(path: str) -> None:
    if path in ROUTES or path.startswith("/api/blobs/") or not path.startswith("/api/"):
        return
    close = difflib.get_close_matches(path, ROUTES, n=1)
    meant = f"; {close[0]} is meant?" if close else f"; there are {', '.join(ROUTES)}"
    raise ValueError(f"Ollama has no path {path}{meant}")


def _told(rule: Rule) -> str:
    where = " or ".join(sorted(rule.paths)) if rule.paths else "any path"
    first, last = rule.used + 1, len(rule.scripts)
    numbers = f"answer {last}" if first == last else f"answers {first} to {last}"
    some = f"{numbers} of " if rule.used else ""
    return f"{some}a script for {where}{f' of {rule.model}' if rule.model else ''}"
