"""Prefixes with which embedding models were trained: one for a query, one for a document.

Without them such a model compares a question with answers as if they were the same kind of text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Prefixes:
    """The prefixes of a model: before a query, and before a document."""

    query: str = ""
    document: str = ""


_SEARCH = "Represent this sentence for searching relevant passages: "
_INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "

_FAMILIES: tuple[tuple[re.Pattern[str], Prefixes], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), Prefixes(query, document))
    for pattern, query, document in (
        # huggingface.co/nomic-ai/nomic-embed-text-v1.5 and -v2-moe, "Task instruction prefixes"
        (r"nomic-embed-text", "search_query: ", "search_document: "),
        # huggingface.co/intfloat/multilingual-e5-large-instruct, "Usage": documents have none
        (r"\be5-\w+(-\w+)*-instruct", _INSTRUCT, ""),
        # huggingface.co/intfloat/e5-base-v2 and multilingual-e5-base, "Usage"
        (r"(^|[/_-])e5[-_](small|base|large|mistral)|multilingual-e5", "query: ", "passage: "),
        # huggingface.co/BAAI/bge-large-en-v1.5, "Model List": queries only; bge-m3 has none
        (r"\bbge-(small|base|large)(?!.*-zh)", _SEARCH, ""),
        # huggingface.co/mixedbread-ai/mxbai-embed-large-v1, "Quickstart"
        (r"mxbai-embed-large", _SEARCH, ""),
        # huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0, "Usage"
        (r"snowflake-arctic-embed2|snowflake-arctic-embed-\w+-v2", "query: ", ""),
        # huggingface.co/Snowflake/snowflake-arctic-embed-l, "Usage"
        (r"snowflake-arctic-embed", _SEARCH, ""),
        # ai.google.dev/gemma/docs/embeddinggemma/model_card, "Prompt instructions"
        (r"embeddinggemma", "task: search result | query: ", "title: none | text: "),
        # huggingface.co/Qwen/Qwen3-Embedding-0.6B, "Usage": documents have none
        (r"qwen3-embedding", _INSTRUCT.rstrip(), ""),  # no space there
    )
)


def prefixes_of(model: str) -> Prefixes:
    """Return the prefixes of a model's family, by its name; empty ones where none are known.

    >>> prefixes_of("nomic-embed-text:latest").query, prefixes_of("all-minilm:22m").query
    ('search_query: ', '')
    """
    return next((known for pattern, known in _FAMILIES if pattern.search(model)), Prefixes())
