"""Thinking that leaked into the answer, taken out again while it streams.

Two ways in which it leaks: the text itself begins with `<think>`; or, with `think` false, the
template has opened the thinking itself, so that only the closing tag shows.
"""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """Text in, answer and thinking out, in pieces that can be passed on at once.

    Args:
        may_be_inside: The template may have opened the thinking: nothing is an answer before the
            closing tag or the end.
    """

    def __init__(self, *, may_be_inside: bool = False) -> None:
        self._held = self._end = ""
        self._parts: list[str] = []
        self._step = self._undecided if may_be_inside else self._beginning

    def feed(self, text: str) -> tuple[str, str]:
        """Return (answer, thinking) that are certain by now."""
        return self._step(text)

    def rest(self) -> tuple[str, str]:
        """Return (answer, thinking) that were held back; the text has ended."""
        held = self._join()
        return ("", held) if self._step == self._inside else (held, "")

    def _beginning(self, text: str) -> tuple[str, str]:
        self._held += text
        start = self._held.lstrip()
        if start.startswith(_OPEN):
            return self._open(start)
        if _OPEN.startswith(start):
            return "", ""
        return self._pass_all()

    def _undecided(self, text: str) -> tuple[str, str]:
        self._held += text
        start = self._held.lstrip()
        if start.startswith(_OPEN):
            return self._open(start)
        if len(start) < len(_OPEN):
            return "", ""
        held, self._held, self._step = self._held, "", self._unclosed
        return self._unclosed(held)

    def _unclosed(self, text: str) -> tuple[str, str]:
        """Thinking, if a closing tag comes; kept in parts: to join them at each token takes too long."""
        self._parts.append(text)
        self._end = (self._end + text)[-len(text) - len(_CLOSE) :]
        return self._close(self._join().lstrip()) if _CLOSE in self._end else ("", "")

    def _join(self) -> str:
        held = "".join([self._held, *self._parts])
        self._held = self._end = ""
        self._parts.clear()
        return held

    def _open(self, text: str) -> tuple[str, str]:
        self._held, self._step = "", self._opened
        return self._opened(text.removeprefix(_OPEN))

    def _opened(self, text: str) -> tuple[str, str]:
        """The line breaks behind the tag belong to nothing."""
        text = text.lstrip("\n")
        if not text:
            return "", ""
        self._step = self._inside
        return self._inside(text)

    def _inside(self, text: str) -> tuple[str, str]:
        self._held += text
        if _CLOSE in self._held:
            return self._close(self._held)
        sure = max(len(self._held) - len(_CLOSE) + 1, 0)
        thinking, self._held = self._held[:sure], self._held[sure:]
        return "", thinking

    def _close(self, text: str) -> tuple[str, str]:
        thinking, _, answer = text.partition(_CLOSE)
        self._held, self._step = "", self._gap
        return self._gap(answer)[0], thinking

    def _gap(self, text: str) -> tuple[str, str]:
        """The line breaks between thinking and answer belong to neither."""
        answer = text.lstrip()
        if answer:
            self._step = self._pass
        return answer, ""

    def _pass_all(self) -> tuple[str, str]:
        held, self._held, self._step = self._held, "", self._pass
        return held, ""

    def _pass(self, text: str) -> tuple[str, str]:
        return text, ""
