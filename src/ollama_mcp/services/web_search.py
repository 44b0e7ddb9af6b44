"""The web through Ollama's own service: ollama.com searches and fetches, and sees the queries.

Texts of pages are untrusted: invisible characters are removed, they are capped, and they stand between
delimiters that their authors could not guess.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ollama_mcp.client import OllamaClient
from ollama_mcp.errors import Forbidden, InvalidArgument, OllamaError
from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.ollama.api_models import WebFetchRequest, WebSearchRequest
from ollama_mcp.ollama.endpoints import WEB_FETCH, WEB_SEARCH
from ollama_mcp.ollama.hosts import is_public, parse_host
from ollama_mcp.ollama.sanitize import strip_invisible

MOST_RESULTS = 10
"""The most results that the service gives."""
_LONGEST_QUERY = 1000
_LONGEST_URL = 2000
_LONGEST_TITLE = 200
_MOST_TEXT = 200_000
"""Characters of one page; a longer one is cut, with a note."""
_MOST_LINKS = 50
"""Links of one page that are kept."""


@dataclass(frozen=True)
class WebText:
    """A page, or the part of one that a search shows.

    Attributes:
        title: The title, on one line.
        url: The address.
        text: The text, without invisible characters.
        links: Addresses of other pages.
        is_cut: Whether the page has more text.
    """

    title: str
    url: str
    text: str
    links: tuple[str, ...] = ()
    is_cut: bool = False


@dataclass
class WebPages:
    """The pages of one search or fetch.

    Attributes:
        asked: The query, or the address.
        pages: The pages, the best first.
        mark: The delimiter around each text, 32 hex digits, new for each call.
        handle: The handle to read it in pages; "" where it is not kept.
    """

    asked: str
    pages: list[WebText]
    mark: str = field(default_factory=lambda: secrets.token_hex(16))
    handle: str = ""

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes, about."""
        return sum(4 * (len(page.text) + len(page.title) + len(page.url)) + 500 for page in self.pages)


class Web:
    """Searches the web and fetches pages.

    found = await Web(client).search("ollama embeddings", 3, job)
    found.pages[0].url
    """

    def __init__(self, client: OllamaClient) -> None:
        self._client = client

    async def search(self, query: str, most: int, job: Job[Any]) -> WebPages:
        """Search the web.

        Args:
            query: The query, of at most 1,000 characters.
            most: The most results, 1 to `MOST_RESULTS`.
            job: Counts them.

        Raises:
            InvalidArgument: The query is empty or too long, or the number is out of range.
            Forbidden: There is no API key, or the service does not take it.
            OllamaError: Any of the backend's.
        """
        query = query.strip()
        if not 1 <= len(query) <= _LONGEST_QUERY:
            raise InvalidArgument(
                f"the query has {len(query)} characters", f'Send a "query" of 1 to {_LONGEST_QUERY}.'
            )
        if not 1 <= most <= MOST_RESULTS:
            raise InvalidArgument(f"max_results is {most}", f"Send 1 to {MOST_RESULTS}.")
        found = await self._client.call(WEB_SEARCH, WebSearchRequest(query=query, max_results=most))
        pages = [_page(result.title, result.url, result.content) for result in found.results[:most]]
        job.advance(JobState.WORKING, len(pages))
        return WebPages(query, pages)

    async def fetch(self, url: str, job: Job[Any]) -> WebPages:
        """Fetch a page as text. The service fetches it, not this machine.

        Raises:
            InvalidArgument: The address is not that of a page.
            Forbidden: It is of a private network, or there is no API key.
            OllamaError: Any of the backend's.
        """
        address = check_url(url)
        found = await self._client.call(WEB_FETCH, WebFetchRequest(url=address))
        job.advance(JobState.WORKING)
        return WebPages(address, [_page(found.title, address, found.content, found.links)])


def _page(title: str, url: str, content: str, links: list[str] | None = None) -> WebText:
    text, _ = strip_invisible(content[: _MOST_TEXT + 1])
    lines = [_line(link) for link in (links or [])[:_MOST_LINKS]]
    return WebText(
        _line(title)[:_LONGEST_TITLE], _line(url), text[:_MOST_TEXT], tuple(lines), len(content) > _MOST_TEXT
    )


def _line(text: str) -> str:
    return " ".join(strip_invisible(text[:_LONGEST_URL])[0].split())


def check_url(url: str) -> str:
    """Return the address of a page that everybody could fetch.

    Names of a private network are not sent to a service outside of it: a name alone may be a secret.

    Raises:
        InvalidArgument: It is no address with http:// or https://.
        Forbidden: It has a password, or is an address or a name of a private network.
    """
    url = url.strip()
    no_page = InvalidArgument(f"{url[:60]!r} is not the address of a page", "Send one with https://.")
    try:
        parts = urlsplit(url)
        host = parse_host(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    except (ValueError, OllamaError):
        raise no_page from None
    is_web = parts.scheme in {"http", "https"} and bool(parts.hostname)
    if not is_web or len(url) > _LONGEST_URL or not url.isprintable() or " " in url:
        raise no_page
    if "@" in parts.netloc:
        raise Forbidden("the address has a user or a password in it", "Send it without.")
    if not is_public(host.hostname):
        raise Forbidden(
            f"{host.hostname[:60]} is of a private network, of which ollama.com should not hear",
            "Name a page of the public web.",
        )
    return url
