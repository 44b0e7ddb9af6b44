"""Ollama's REST API on one screen: a row an endpoint, and the client has two verbs that take a row.

A new endpoint is a row here and its classes in `api_models`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from ollama_mcp.ollama import api_models as api
from ollama_mcp.ollama.base_models import Line, Request, Response, Upload

RequestT = TypeVar("RequestT", bound="Request | Upload | bytes | None")
ResponseT = TypeVar("ResponseT", bound=Response)
LineT = TypeVar("LineT", bound=Line)


@dataclass(frozen=True)
class Call(Generic[RequestT, ResponseT]):
    """An endpoint with one request and one answer; `path` may have `{digest}`."""

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
    """An endpoint with one request and an answer of many lines.

    `tells_in_stream`: the failure of the call as a whole comes as a line of a 200 (pull, push,
    create), so that its text says what is wrong; elsewhere such a line is the end of a runner,
    whose text may belong to another call. `once`: as of a `Call`. `timeout`: which of the `Timeouts` runs
    between two lines.
    """

    method: str
    path: str
    request: type[RequestT]
    response: type[LineT]
    tells_in_stream: bool = False
    once: bool = False
    timeout: Literal["idle", "transfer"] = "idle"


def _transfer(path: str, request: type[RequestT]) -> Stream[RequestT, api.ProgressLine]:
    return Stream(
        "POST", path, request, api.ProgressLine, tells_in_stream=True, once=True, timeout="transfer"
    )


Nothing: type[None] = type(None)

ROOT = Call("GET", "/", Nothing, api.Greeting)
VERSION = Call("GET", "/api/version", Nothing, api.Version)
TAGS = Call("GET", "/api/tags", Nothing, api.ModelList)
PS = Call("GET", "/api/ps", Nothing, api.RunningList)
SHOW = Call("POST", "/api/show", api.ShowRequest, api.ShowResponse)
CHAT = Stream("POST", "/api/chat", api.ChatRequest, api.ChatChunk)
GENERATE = Stream("POST", "/api/generate", api.GenerateRequest, api.GenerateChunk)
EMBED = Call("POST", "/api/embed", api.EmbedRequest, api.EmbedResponse, loads_model=True)
EMBEDDINGS = Call(
    "POST",
    "/api/embeddings",
    api.LegacyEmbeddingsRequest,
    api.LegacyEmbeddingsResponse,
    loads_model=True,
)
PULL = _transfer("/api/pull", api.PullRequest)
PUSH = _transfer("/api/push", api.PullRequest)
CREATE = _transfer("/api/create", api.CreateRequest)
COPY = Call("POST", "/api/copy", api.CopyRequest, api.Done, once=True)
DELETE = Call("DELETE", "/api/delete", api.DeleteRequest, api.Done, once=True)
BLOB_EXISTS = Call("HEAD", "/api/blobs/{digest}", Nothing, api.Done)
BLOB_UPLOAD: Call[Upload | bytes, api.Done] = Call("POST", "/api/blobs/{digest}", bytes, api.Done, once=True)
WEB_SEARCH = Call("POST", "/api/web_search", api.WebSearchRequest, api.WebSearchResponse, cloud=True)
WEB_FETCH = Call("POST", "/api/web_fetch", api.WebFetchRequest, api.WebFetchResponse, cloud=True)
