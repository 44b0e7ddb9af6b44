"""What can go wrong, and who sees it.

Exception
├── EmbeddedUnavailable   raised by weights, convert and child; seen by whoever starts the engine
├── ModelFileError        raised by gguf_header; weights and host turn it into one of the others
└── Refused               raised inside the server; the client sees it as HTTP status and {"error"}
"""

from __future__ import annotations


class EmbeddedUnavailable(Exception):
    """The embedded engine cannot run here.

    Attributes:
        cause: What is missing or broken, one sentence.
        remedy: What to do about it, for a person to read.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy


class ModelFileError(Exception):
    """A file is not a whole GGUF model. The message says what is wrong with it."""


class Refused(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        text: Ollama's words, the value of ``error``.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
