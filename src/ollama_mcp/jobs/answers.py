"""Results of jobs: an answer's text, or vectors, each with its statistics."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama.api_models import ToolCall


class _Numbers:
    """Statistics as a frozen dataclass."""

    def as_data(self) -> dict[str, Any]:
        """Return the statistics that are known and not zero, as plain data."""
        return {k: v for k, v in vars(self).items() if v is not None and v is not False and v != ""}


@dataclass(frozen=True)
class Stats(_Numbers):
    """Numbers of one generation. Durations in seconds; None is what the server did not say.

    Attributes:
        model: The model that answered.
        chosen: Why this model, where the caller named none: configured, loaded or installed last.
        done_reason: stop, length (cut off), load or unload.
        prompt_tokens: Tokens of the prompt.
        output_tokens: Tokens of the answer, thinking included.
        tokens_per_s: Speed of writing.
        load_s: Loading the model.
        first_token_s: From the call to the first token.
        total_s: From the call to the end.
        context_used: Tokens of prompt and answer together.
        context_window: Tokens that the loaded model holds.
        context_grown: Whether the window was grown for this call.
        truncated: {"seen", "window"} if the server cut the prompt in silence.
        chunks: Lines of the answer.
        thinking_chars: Length of the thinking, in characters.
        repaired: Whether a second turn made the answer fit the schema.
        cloud: Whether the prompt left this machine.
    """

    model: str
    chosen: str = ""
    done_reason: str = ""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tokens_per_s: float | None = None
    load_s: float | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    context_used: int | None = None
    context_window: int | None = None
    context_grown: bool = False
    truncated: dict[str, int] | None = None
    chunks: int = 0
    thinking_chars: int = 0
    repaired: bool = False
    cloud: bool = False


class Answer(str):
    """The text of an answer, with what belongs to it.

    Attributes:
        handle: What finds it again, where it is read in pages; "" where it is not kept.
        stats: The numbers.
        thinking: What the model thought, apart from the answer.
        tool_calls: Calls of the caller's tools that the model asks for.
        logprobs: For each token `{"token", "logprob", "top_logprobs"}`, where they were asked for.
        notes: What the caller should know: options dropped, a window grown, a prompt cut.
        cut: A line that says where it was cut off, and by what; "" where it is whole, and for JSON.
        prompt_cut: A line that says that the model did not see all of the prompt; "" as for `cut`.
    """

    __slots__ = ("cut", "handle", "logprobs", "notes", "prompt_cut", "stats", "thinking", "tool_calls")

    handle: str
    stats: Stats
    thinking: str
    tool_calls: list[ToolCall]
    logprobs: list[dict[str, Any]]
    notes: list[str]
    cut: str
    prompt_cut: str

    def __new__(
        cls,
        text: str,
        *,
        stats: Stats,
        thinking: str = "",
        tool_calls: Iterable[ToolCall] = (),
        logprobs: Iterable[dict[str, Any]] = (),
        notes: Iterable[str] = (),
        cut: str = "",
        prompt_cut: str = "",
    ) -> Self:
        """Make one; the text itself is the string."""
        answer = super().__new__(cls, text)
        answer.handle = ""
        answer.stats = stats
        answer.thinking = thinking
        answer.tool_calls = list(tool_calls)
        answer.logprobs = list(logprobs)
        answer.notes = list(notes)
        answer.cut = cut
        answer.prompt_cut = prompt_cut
        return answer

    @property
    def size(self) -> int:
        """Bytes, about, that it takes."""
        calls = repr((self.tool_calls, self.logprobs)) if self.tool_calls or self.logprobs else ""
        return sum(map(sys.getsizeof, (str(self), self.thinking, calls)))


@dataclass(frozen=True)
class Unfinished:
    """Text of an answer that is not finished, or never will be.

    Attributes:
        text: What was written.
        summary: How far it is, in words.
        handle: What waits for the rest, where there will be one.
        failure: Why there will be none; None while it goes on.
    """

    text: str
    summary: str
    handle: str
    failure: OllamaError | None = None

    def __str__(self) -> str:
        """The text."""
        return self.text


@dataclass(frozen=True)
class EmbeddingStats(_Numbers):
    """Numbers of one embedding call, as in `Stats`."""

    model: str
    chosen: str = ""
    count: int = 0
    dimensions: int = 0
    prompt_tokens: int | None = None
    batches: int = 0
    total_s: float | None = None
    context_window: int | None = None
    context_grown: bool = False
    legacy: bool = False
    query_prefix: str = ""
    document_prefix: str = ""
    cloud: bool = False


Form = Literal["summary", "full", "base64"]
"""How the caller wants to see vectors: shape and similarities, numbers, or packed numbers."""


MOST_NUMBERS = 100_000
"""In one result, which has each twice, as text and as data: some 4 MB."""


@dataclass(frozen=True)
class Vectors:
    """Vectors in the order of the texts. Iterates over, and has the length of, the vectors.

    Attributes:
        vectors: Themselves.
        stats: The numbers of the call.
        notes: What the caller should know.
        form: How the caller wants to see them.
        uri: Where they can be read for a while, where they are kept; "" where they are not.
        failed: Places of the texts that have none, since the model failed of them; there the vector is [].
    """

    vectors: list[list[float]]
    stats: EmbeddingStats
    notes: list[str] = field(default_factory=list[str])
    form: Form = "summary"
    uri: str = ""
    failed: Sequence[int] = ()

    @property
    def count(self) -> int:
        """Numbers in all vectors."""
        return len(self.vectors) * self.stats.dimensions

    @property
    def shown(self) -> Form:
        """The form in which one result can show them: too many numbers are a resource, not a result."""
        return "summary" if self.count > MOST_NUMBERS else self.form

    @property
    def size(self) -> int:
        """Bytes, about, that they take: a float of Python's and the place that names it."""
        return 32 * self.count

    def __iter__(self) -> Any:
        return iter(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, place: int) -> list[float]:
        return self.vectors[place]
