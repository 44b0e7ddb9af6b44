"""Ollama's REST API on one screen: a row an endpoint, and the client has two verbs that take a row.

A new endpoint is a row here and its models in `wire`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from ollama_mcp import wire
from ollama_mcp.bodies import Line, Request, Response, Upload

RequestT = TypeVar("RequestT", bound="Request | Upload | bytes | None")
ResponseT = TypeVar("ResponseT", bound=Response)
LineT = TypeVar("LineT", bound=Line)


@dataclass(frozen=True)
class Call(Generic[RequestT, ResponseT]):
    """One request, one answer. `request` and `response` are models of `wire`; `path` may have `{digest}`."""

    method: str
    path: str
    request: type[RequestT]
    response: type[ResponseT]
    loads_model: bool = False
    """Whether a model may have to be loaded first, which takes minutes."""
    cloud: bool = False
    """Whether it is Ollama's cloud service that answers, not the Ollama server."""
    once: bool = False
    """Whether it changes the server's models, so that it is never sent again by ourselves."""


@dataclass(frozen=True)
class Stream(Generic[RequestT, LineT]):
    """One request, many lines.

    `tells_in_stream`: the failure of the call as a whole comes as a line of a 200 (pull, push,
    create), so that its text says what is wrong; elsewhere such a line is the end of a runner,
    whose text may belong to another call. `once`: as of a `Call`. `clock`: which of the `Clocks` runs
    between two lines.
    """

    method: str
    path: str
    request: type[RequestT]
    response: type[LineT]
    tells_in_stream: bool = False
    once: bool = False
    clock: Literal["idle", "transfer"] = "idle"


def _transfer(path: str, request: type[RequestT]) -> Stream[RequestT, wire.ProgressLine]:
    return Stream("POST", path, request, wire.ProgressLine, tells_in_stream=True, once=True, clock="transfer")


Nothing: type[None] = type(None)

ROOT = Call("GET", "/", Nothing, wire.Greeting)
VERSION = Call("GET", "/api/version", Nothing, wire.Version)
TAGS = Call("GET", "/api/tags", Nothing, wire.ModelList)
PS = Call("GET", "/api/ps", Nothing, wire.RunningList)
SHOW = Call("POST", "/api/show", wire.ShowRequest, wire.ShowResponse)
CHAT = Stream("POST", "/api/chat", wire.ChatRequest, wire.ChatChunk)
GENERATE = Stream("POST", "/api/generate", wire.GenerateRequest, wire.GenerateChunk)
EMBED = Call("POST", "/api/embed", wire.EmbedRequest, wire.EmbedResponse, loads_model=True)
EMBEDDINGS = Call(
    "POST", "/api/embeddings", wire.LegacyEmbeddingsRequest, wire.LegacyEmbeddingsResponse, loads_model=True
)
PULL = _transfer("/api/pull", wire.PullRequest)
PUSH = _transfer("/api/push", wire.PullRequest)
CREATE = _transfer("/api/create", wire.CreateRequest)
COPY = Call("POST", "/api/copy", wire.CopyRequest, wire.Done, once=True)
DELETE = Call("DELETE", "/api/delete", wire.DeleteRequest, wire.Done, once=True)
BLOB_EXISTS = Call("HEAD", "/api/blobs/{digest}", Nothing, wire.Done)
BLOB_UPLOAD: Call[Upload | bytes, wire.Done] = Call(
    "POST", "/api/blobs/{digest}", bytes, wire.Done, once=True
)
WEB_SEARCH = Call("POST", "/api/web_search", wire.WebSearchRequest, wire.WebSearchResponse, cloud=True)
WEB_FETCH = Call("POST", "/api/web_fetch", wire.WebFetchRequest, wire.WebFetchResponse, cloud=True)
