"""The JSON that Ollama speaks: one model a request and one a response, as in its `api/types.go`.

`bodies` says how strict they are. Plain objects are taken where a model is (`options={"seed": 1}`), as JSON
is; type checkers want the model: `Options(seed=1)`, `Message(role="user", content="…")`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pydantic_core
from pydantic import AliasChoices, BeforeValidator, Field

from ollama_mcp.ollama.base_models import Line, Request, Response
from ollama_mcp.ollama.options import Options as Options  # noqa: PLC0414 - public here, too


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("seconds or a duration, not a boolean")  # noqa: TRY004 - pydantic collects ValueError only
    return value


KeepAlive = Annotated[int | float | str, BeforeValidator(_no_boolean)]
"""Seconds (negative: for ever), or a Go duration such as `10m`."""
Think = bool | Literal["low", "medium", "high", "max"]


Count = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A whole number as Go has them; a larger one is none."""


# --- chat and generate -------------------------------------------------------------------------


def _object(value: Any) -> Any:
    """Read arguments that other APIs send as JSON text, which Ollama refuses with HTTP 400; "" is none."""
    if isinstance(value, str):
        value = pydantic_core.from_json(value.encode(errors="replace")) if value.strip() else None
    return {} if value is None else value


class ToolFunction(Response):
    """A call that a model asks for; `arguments` is an object, never a string."""

    essential: ClassVar[frozenset[str]] = frozenset({"arguments"})

    name: str = ""
    arguments: Annotated[dict[str, Any], BeforeValidator(_object)] = Field(default_factory=dict[str, Any])
    index: int | None = None


class ToolCall(Response):
    """An entry of a message's `tool_calls`."""

    id: str | None = None
    function: ToolFunction = Field(default_factory=ToolFunction)


class Message(Request):
    """A message of a conversation. `images` are bare base64; `tool_name` names the tool of a result."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _GenerationRequest(Request):
    model: str
    stream: bool = True
    options: Options | None = None
    format: Literal["json"] | dict[str, Any] | None = None
    keep_alive: KeepAlive | None = None
    think: Think | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class ChatRequest(_GenerationRequest):
    """POST /api/chat. No messages: load the model (with `keep_alive` 0: unload it)."""

    messages: list[Message] = Field(default_factory=list[Message])
    tools: list[dict[str, Any]] | None = None


class GenerateRequest(_GenerationRequest):
    """POST /api/generate. An empty prompt: load the model (with `keep_alive` 0: unload it)."""

    prompt: str = ""
    suffix: str | None = None
    images: list[str] | None = None
    system: str | None = None
    template: str | None = None
    raw: bool | None = None
    context: list[int] | None = None


class ChatMessage(Response):
    """The part of an assistant's message that one chunk carries."""

    role: str = ""
    content: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = Field(default_factory=list[ToolCall])


class Chunk(Line):
    """A line of an answer. Counts and durations (nanoseconds) come with the last one.

    An answer is complete when a chunk is: `done` is true, or there is a `done_reason`.
    """

    model: str = ""
    created_at: str = ""
    done: bool = False
    done_reason: str = ""
    remote_model: str = ""
    remote_host: str = ""
    total_duration: Count = 0
    load_duration: Count = 0
    prompt_eval_count: Count = 0
    prompt_eval_duration: Count = 0
    eval_count: Count = 0
    eval_duration: Count = 0
    logprobs: list[dict[str, Any]] | None = None

    @property
    def is_last(self) -> bool:
        """True if the answer is complete with this line."""
        return self.done or bool(self.done_reason)

    @property
    def text(self) -> str:
        """The new text."""
        return ""

    @property
    def thoughts(self) -> str:
        """The new thinking."""
        return ""

    @property
    def calls(self) -> list[ToolCall]:
        """The new tool calls."""
        return []


class ChatChunk(Chunk):
    """A line of POST /api/chat."""

    essential: ClassVar[frozenset[str]] = frozenset(
        {"message", "content", "thinking", "tool_calls", "function", "arguments", "done"}
    )

    message: ChatMessage = Field(default_factory=ChatMessage)

    @property
    def text(self) -> str:
        """The new text."""
        return self.message.content

    @property
    def thoughts(self) -> str:
        """The new thinking."""
        return self.message.thinking

    @property
    def calls(self) -> list[ToolCall]:
        """The new tool calls."""
        return self.message.tool_calls


class GenerateChunk(Chunk):
    """A line of POST /api/generate."""

    essential: ClassVar[frozenset[str]] = frozenset({"response", "thinking", "done"})

    response: str = ""
    thinking: str = ""
    context: list[int] | None = None

    @property
    def text(self) -> str:
        """The new text."""
        return self.response

    @property
    def thoughts(self) -> str:
        """The new thinking."""
        return self.thinking


ChunkT = TypeVar("ChunkT", bound=Chunk)


def whole(chunks: Sequence[ChunkT]) -> ChunkT:
    """Join the chunks of an answer: the last one, with the text, the thinking and the calls of all."""
    last, text = chunks[-1], "".join(chunk.text for chunk in chunks)
    thoughts = "".join(chunk.thoughts for chunk in chunks)
    fields: dict[str, Any] = {"logprobs": [row for chunk in chunks for row in chunk.logprobs or ()] or None}
    if isinstance(last, ChatChunk):
        calls = [call for chunk in chunks for call in chunk.calls]
        fields["message"] = ChatMessage(role="assistant", content=text, thinking=thoughts, tool_calls=calls)
    else:
        fields |= {"response": text, "thinking": thoughts}
    return last.model_copy(update=fields)


# --- embeddings --------------------------------------------------------------------------------


class EmbedRequest(Request):
    """POST /api/embed. Never streams."""

    model: str
    input: str | list[str]
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: KeepAlive | None = None
    options: Options | None = None


class EmbedResponse(Response):
    """L2-normalised vectors in the order of the inputs. Durations in nanoseconds."""

    essential: ClassVar[frozenset[str]] = frozenset({"embeddings"})

    model: str = ""
    embeddings: list[list[float]] = Field(default_factory=list[list[float]])
    total_duration: Count = 0
    load_duration: Count = 0
    prompt_eval_count: Count = 0


class LegacyEmbeddingsRequest(Request):
    """POST /api/embeddings, for servers without /api/embed."""

    model: str
    prompt: str
    keep_alive: KeepAlive | None = None
    options: Options | None = None


class LegacyEmbeddingsResponse(Response):
    """A vector, not normalised."""

    essential: ClassVar[frozenset[str]] = frozenset({"embedding"})

    embedding: list[float] = Field(default_factory=list[float])

    def normalised(self) -> list[float]:
        """The vector at length 1, as /api/embed gives it; a zero vector stays zero."""
        norm = math.hypot(*self.embedding)
        return [x / norm for x in self.embedding] if norm else self.embedding


# --- models ------------------------------------------------------------------------------------


class ModelDetails(Response):
    """Details that a model file has of itself."""

    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: list[str] = Field(default_factory=list[str])
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: Count = 0
    embedding_length: Count = 0


class ModelInfo(Response):
    """An installed model: one entry of GET /api/tags. `size` in bytes."""

    name: str = ""
    model: str = ""
    modified_at: str = ""
    size: Count = 0
    digest: str = ""
    details: ModelDetails = Field(default_factory=ModelDetails)
    remote_model: str = ""
    remote_host: str = ""
    capabilities: list[str] | None = None


class ModelList(Response):
    """GET /api/tags."""

    models: list[ModelInfo] = Field(default_factory=list[ModelInfo])


class ShowRequest(Request):
    """POST /api/show."""

    model: str
    verbose: bool | None = None


class ShowResponse(Response):
    """Facts about a model; `model_info` has `<architecture>.context_length` and the like."""

    license: str | list[str] = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: ModelDetails = Field(default_factory=ModelDetails)
    messages: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    model_info: dict[str, Any] = Field(default_factory=dict[str, Any])
    projector_info: dict[str, Any] = Field(default_factory=dict[str, Any])
    tensors: list[dict[str, Any]] | None = None
    capabilities: list[str] | None = None
    modified_at: str = ""
    requires: str = ""
    remote_model: str = ""
    remote_host: str = ""

    def fact(self, name: str) -> int:
        """A whole number of `model_info` by its name behind the architecture; 0 where it is missing."""
        values = (v for k, v in self.model_info.items() if k.endswith(f".{name}"))
        return next((v for v in values if type(v) is int and abs(v) < 2**63), 0)


class RunningModel(Response):
    """A loaded model: one entry of GET /api/ps. Sizes in bytes; `context_length` is the window loaded."""

    name: str = ""
    model: str = ""
    size: Count = 0
    digest: str = ""
    details: ModelDetails = Field(default_factory=ModelDetails)
    expires_at: str = ""
    size_vram: Count = 0
    context_length: Count = 0

    @property
    def gpu_share(self) -> float | None:
        """Share of the model in the GPU's memory, from 0 to 1; None where Ollama does not say."""
        return min(max(self.size_vram / self.size, 0.0), 1.0) if self.size > 0 else None


class RunningList(Response):
    """GET /api/ps."""

    models: list[RunningModel] = Field(default_factory=list[RunningModel])


class Version(Response):
    """GET /api/version."""

    version: str = ""


class Greeting(Response):
    """GET /, whose answer is text."""

    text: str = ""


# --- management --------------------------------------------------------------------------------


class PullRequest(Request):
    """POST /api/pull and /api/push."""

    model: str
    insecure: bool | None = None
    stream: bool = True


class CreateRequest(Request):
    """POST /api/create. `files` and `adapters` map names to blob digests."""

    model: str
    from_: str | None = Field(
        default=None, validation_alias=AliasChoices("from_", "from"), serialization_alias="from"
    )
    """`from` in JSON, which is a keyword of Python's."""
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    license: str | list[str] | None = None
    system: str | None = None
    parameters: Options | None = None
    messages: list[Message] | None = None
    quantize: str | None = None
    stream: bool = True


class CopyRequest(Request):
    """POST /api/copy. The answer has no body."""

    source: str
    destination: str


class DeleteRequest(Request):
    """DELETE /api/delete, which has a body. The answer has none."""

    model: str


class Done(Response):
    """A success without a body."""


class ProgressLine(Line):
    """A line of pull, push and create; bytes of one layer. `completed` can go down."""

    status: str = ""
    digest: str = ""
    total: Count = 0
    completed: Count = 0

    @property
    def is_last(self) -> bool:
        """True if the answer is complete with this line."""
        return self.status == "success"


# --- the web, through Ollama's cloud -----------------------------------------------------------


class WebSearchRequest(Request):
    """POST https://ollama.com/api/web_search."""

    query: str
    max_results: int | None = None


class WebPage(Response):
    """A result of a web search."""

    title: str = ""
    url: str = ""
    content: str = ""


class WebSearchResponse(Response):
    """Results, best first."""

    results: list[WebPage] = Field(default_factory=list[WebPage])


class WebFetchRequest(Request):
    """POST https://ollama.com/api/web_fetch."""

    url: str


class WebFetchResponse(Response):
    """A page as text, with the links that are on it."""

    title: str = ""
    content: str = ""
    links: list[str] = Field(default_factory=list[str])
