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

_SEARCH_ZH = "为这个句子生成表示以用于检索相关文章："

# Every row was compared with its source, or with a copy of it, on 2026-11-29.
_FAMILIES: tuple[tuple[re.Pattern[str], Prefixes], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), Prefixes(query, document))
    for pattern, query, document in (
        # huggingface.co/nomic-ai/nomic-embed-text-v1.5 and -v2-moe, "Task instruction prefixes"
        (r"nomic-embed-text", "search_query: ", "search_document: "),
        # huggingface.co/intfloat/multilingual-e5-large-instruct and e5-mistral-7b-instruct, "Usage": queries
        # only; there is no e5-mistral without instructions
        (r"\be5-\w+(-\w+)*-instruct|\be5-mistral", _INSTRUCT, ""),
        # huggingface.co/intfloat/e5-base-v2 and multilingual-e5-base, "Usage"
        (r"(^|[/_-])e5[-_](small|base|large)|multilingual-e5", "query: ", "passage: "),
        # github.com/FlagOpen/FlagEmbedding, examples/inference/embedder/README.md: queries only, for Chinese
        # models in Chinese; bge-m3 has none
        (r"\bbge-(small|base|large)-zh", _SEARCH_ZH, ""),
        (r"\bbge-(small|base|large)", _SEARCH, ""),
        # mixedbread.ai/docs/embeddings/mxbai-embed-large-v1, "Using a Prompt": queries only
        (r"mxbai-embed-large", _SEARCH, ""),
        # huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0, "Usage": queries only
        (r"snowflake-arctic-embed2|snowflake-arctic-embed-\w+-v2", "query: ", ""),
        # github.com/Snowflake-Labs/arctic-embed, README.md, "Usage": queries only, all models before v2.0
        (r"snowflake-arctic-embed", _SEARCH, ""),
        # ai.google.dev/gemma/docs/embeddinggemma/model_card, "Prompt instructions"; for embeddinggemma-2, the
        # prompts "Retrieval-query" and "Retrieval-document" in ollama.com/library/embeddinggemma-2
        (r"embeddinggemma", "task: search result | query: ", "title: none | text: "),
        # github.com/QwenLM/Qwen3-Embedding, README.md, get_detailed_instruct: queries only
        (r"qwen3-embedding", _INSTRUCT.rstrip(), ""),  # no space there
    )
)


def prefixes_of(model: str) -> Prefixes:
    """Return the prefixes of a model's family, by its name; empty ones where none are known.

    >>> prefixes_of("nomic-embed-text:latest").query, prefixes_of("all-minilm:22m").query
    ('search_query: ', '')
    """
    return next((known for pattern, known in _FAMILIES if pattern.search(model)), Prefixes())
