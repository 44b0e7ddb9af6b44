"""The output of a model, read tolerantly before a second generation is spent on it.

Models mark things in ways of their own: thinking before the answer, JSON in a fence or between words, a
call of a tool as text. A text that can only mean one thing is taken so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from ollama_mcp.client.error_answers import broken_call
from ollama_mcp.ollama.api_models import ToolCall, ToolFunction

# --- thinking ------------------------------------------------------------------------------------

_PAIRS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, QwQ, SmolLM3 and most others
    ("[THINK]", "[/THINK]"),  # Mistral's Magistral
    ("<seed:think>", "</seed:think>"),  # ByteDance Seed-OSS
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere's Command A Reasoning
    ("◁think▷", "◁/think▷"),  # Moonshot's Kimi-VL-Thinking
    ("<thinking>", "</thinking>"),  # Granite 3.2 and many tunes
    ("<thought>", "</thought>"),  # Gemma and Hermes tunes
    ("<reasoning>", "</reasoning>"),  # Reka Flash 3, GRPO tunes
    ("<reflection>", "</reflection>"),  # Reflection tunes
    ("<|channel|>analysis<|message|>", "<|end|>"),  # OpenAI's gpt-oss (harmony)
    ("<|channel>thought", "<channel|>"),  # Gemma 4
)
"""Marks of thinking, with the models that write them; only at the beginning of a text."""
_ALONE = tuple(closing for _, closing in _PAIRS[:5])
"""Closing marks that mean nothing else, and so are taken without the opening one."""
_AFTER = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|<\|START_RESPONSE\|>")
"""Marks that begin the answer itself."""
_ENDS = ("<|return|>", "<|END_RESPONSE|>", "<|eot_id|>", "<|im_end|>")
_QUOTES = "`'\"“‘«"


def without_thinking(
    text: str, *, thinks: bool = False, is_told: bool = False, asked: Callable[[], str] = str
) -> tuple[str, str]:
    r"""Split a text into answer and thinking.

    Thinking stands between marks at the beginning, or before a closing mark whose opening one was in the
    template. A mark that is quoted, in a block of code or in JSON is a part of the answer, and so are marks
    that the caller asked for.

    >>> without_thinking("2+2 is 4.\n</think>\n\n4"), without_thinking("[THINK]Hm.[/THINK]4")
    (('4', '2+2 is 4.\n'), ('4', 'Hm.'))
    >>> without_thinking("The </think> tag ends it.")
    ('The </think> tag ends it.', '')

    Args:
        text: What the model wrote.
        thinks: Whether the model is known to think: then a closing mark need not end its line, and
            thinking may be all that there is.
        is_told: Whether the server has told the thinking apart: then a closing mark alone is text.
        asked: Called for the text of the request, where a mark stands in the answer.
    """
    start = text.lstrip()
    for opening, closing in _PAIRS:
        if start.startswith(opening) and opening not in asked():
            thinking, mark, answer = start.removeprefix(opening).partition(closing)
            if mark:
                return _plain_answer(answer), thinking.lstrip("\n")
    for closing in () if is_told else _ALONE:
        at = text.find(closing)
        if at < 0 or _is_quoted(text, at, closing) or closing in asked():
            continue
        if start[:1] in ("{", "[", '"') and is_json(text):
            return text, ""
        rest = text[at + len(closing) :]
        ends_line = rest.lstrip(" \t").startswith(("\n", "\r"))
        ends_sentence = text[:at][-1:] in tuple(".!?…") and rest[:1].isalnum()
        if thinks or (rest.strip() and (ends_line or ends_sentence)):
            return _plain_answer(rest), text[:at]
    return text, ""


def _plain_answer(text: str) -> str:
    text = _AFTER.sub("", text, count=1).lstrip()
    bare = text.rstrip()
    return next((bare.removesuffix(end) for end in _ENDS if bare.endswith(end)), text)


def _is_quoted(text: str, at: int, mark: str) -> bool:
    beside = text[at - 1 : at] + text[at + len(mark) : at + len(mark) + 1]
    in_code = text.count("```", 0, at) % 2 == 1 or text.count("~~~", 0, at) % 2 == 1
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return any(quote in beside for quote in _QUOTES) or in_code or line.count("`") % 2 == 1


# --- JSON ----------------------------------------------------------------------------------------

_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_MOST_STARTS = 32
_LONGEST_SEARCHED = 100_000
"""Places, and characters, of a text in which JSON is looked for between words."""


def is_json(text: str) -> bool:
    """Return whether a text is JSON as it stands."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_inside(text: str, *, in_fences_only: bool = False, at_first: bool = False) -> list[str]:
    """Return the objects and lists of JSON in a text that has more than that: in fences, else between words.

    >>> json_inside('Here it is: {"a": 1}. Done.')
    ['{"a": 1}']

    Args:
        text: The answer of the model.
        in_fences_only: Whether JSON between words does not count: in a text that was cut off, it may be
            a part.
        at_first: Whether the first bracket has to begin it; without a schema a part looks like a whole.

    Returns:
        Each once, in their order, as the text has them.
    """
    fenced = [match[1].strip() for match in _FENCE.finditer(text)]
    found = [inner for inner in fenced if inner[:1] in ("{", "[") and is_json(inner)]
    if not found and not in_fences_only and len(text) <= _LONGEST_SEARCHED:
        decoder, at = json.JSONDecoder(), 0
        for _ in range(_MOST_STARTS):
            start = min(
                (place for place in (text.find("{", at), text.find("[", at)) if place >= 0), default=-1
            )
            if start < 0:
                break
            try:
                _, at = decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                if at_first:
                    break
                at = start + 1
            else:
                found.append(text[start:at])
    return list(dict.fromkeys(found))


# --- calls of tools ------------------------------------------------------------------------------

_MARKED = (
    ("<tool_call>", "</tool_call>"),  # Qwen 2.5 and 3, Hermes 2 and 3, and who was trained on their template
    ("<|tool_call|>", "<|/tool_call|>"),  # Granite 3, Phi-4-mini
    ("<|python_tag|>", "<|eom_id|>"),  # Llama 3.1 to 3.3
    ("[TOOL_CALLS]", "</s>"),  # Mistral 7B v0.3, Nemo, Small
)
"""How models mark a call, each with those that do; the closing mark may be missing at the end."""
_NAMED = re.compile(r"<function=([\w.-]+)>(.*?)</function>", re.DOTALL)
"""Llama 3.1's custom format, with JSON inside; Qwen3-Coder's, with a tag for each parameter."""
_PARAMETER = re.compile(r"<parameter=([\w.-]+)>(.*?)</parameter>", re.DOTALL)
_FENCED = re.compile(r"```(?:json|tool_call|tool_code|xml)?\s")


def printed_calls(text: str, tools: Sequence[Mapping[str, Any]]) -> tuple[str, list[ToolCall]]:
    """Split a text into its words and the calls that it prints, where every name is one of those offered.

    A call with marks may have words around it; one without marks, or in a fence of code as Qwen2.5-Coder
    and Gemma print it, has to be all of the text: otherwise the text is about a call.

    Args:
        text: The answer of the model.
        tools: The tools of the request, in Ollama's form.

    Returns:
        The words and the calls; the text and no calls where it prints none.

    Raises:
        Upstream: The text is a call of an offered tool, and its arguments cannot be read.
    """
    functions: list[Any] = [tool.get("function") for tool in tools]
    names = {str(cast("Mapping[str, Any]", f).get("name")) for f in functions if isinstance(f, Mapping)}
    if not names:
        return text, []
    for part in (_named_calls, _marked_calls):
        rest, calls = part(text, names)
        if calls:
            return rest, calls
    alone = text.strip()
    if (fence := _FENCED.match(alone)) and alone.endswith("```") and alone.count("```") == 2:
        alone = alone[fence.end() : -3].strip()
    is_call = alone[:1] in ("{", "[") and alone[-1:] in ("}", "]")
    calls = _calls_in(alone, names, is_marked=False) if is_call else None
    return ("", calls) if calls else (text, [])


def _named_calls(text: str, names: Collection[str]) -> tuple[str, list[ToolCall]]:
    """Read `<function=name>…</function>`, with or without `<tool_call>` around it."""
    if "</function>" not in text:
        return text, []
    matches = list(_NAMED.finditer(text))
    if any(found[1] not in names or _is_quoted(text, found.start(), found[0]) for found in matches):
        return text, []
    rest = _NAMED.sub("", text).replace("<tool_call>", "").replace("</tool_call>", "").strip()
    calls: list[ToolCall] = []
    for found in matches:
        arguments = _arguments(found[2].strip())
        if arguments is None:
            if rest:  # the text is about a call
                return text, []
            raise broken_call(found[1])
        calls.append(ToolCall(function=ToolFunction(name=found[1], arguments=arguments)))
    return rest, calls


def _marked_calls(text: str, names: Collection[str]) -> tuple[str, list[ToolCall]]:
    """Read JSON between one of the pairs of `_MARKED`."""
    for opening, closing in _MARKED:
        at, words, calls = 0, list[str](), list[ToolCall]()
        while (start := text.find(opening, at)) >= 0:
            end = text.find(closing, start)
            inner = text[start + len(opening) : end if end >= 0 else len(text)].strip()
            words.append(text[at:start])
            at = end + len(closing) if end >= 0 else len(text)
            if _is_quoted(text, start, text[start:at]):
                return text, []
            found = _calls_in(inner, names, is_marked=True)
            if found is None:
                # A call that is all of the text, of an offered tool, and no JSON: the model tried.
                named = re.search(r'"name" ?: ?"([^"\\]{1,200})"', inner)
                is_alone = not "".join([*words, text[at:]]).strip()
                if is_alone and named and named[1] in names:
                    raise broken_call(named[1])
                return text, []
            calls += found
        if calls:
            return "".join([*words, text[at:]]).strip(), calls
    return text, []


_ARGUMENTS = ("arguments", "parameters", "args", "input")
_OF_A_CALL = frozenset({"name", "id", "type", "index", *_ARGUMENTS})


def _calls_in(text: str, names: Collection[str], *, is_marked: bool) -> list[ToolCall] | None:
    """Return the calls in a text of JSON; None where it is an answer, or a list of tools."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found: list[ToolCall] = []
    for row in cast("list[Any]", value if isinstance(value, list) else [value]):
        inner = row.get("function", row) if isinstance(row, dict) else row  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(inner, dict) or inner.get("name") not in names:  # pyright: ignore[reportUnknownMemberType]
            return None
        fields = cast("dict[str, Any]", inner)
        key = next((key for key in _ARGUMENTS if key in fields), "")
        given: Any = fields[key] if key else {}
        if isinstance(given, str):
            given = _arguments(given)
        is_definition = isinstance(given, dict) and "properties" in given
        is_call = fields.keys() <= _OF_A_CALL and (key or is_marked) and not is_definition
        if not isinstance(given, dict) or not is_call:
            return None
        function = ToolFunction(name=fields["name"], arguments=cast("dict[str, Any]", given))
        found.append(ToolCall(function=function))
    return found or None


def _arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments of a call, in JSON or in a tag for each; None where they are neither."""
    if "</parameter>" in text:
        tags = [(key, value.strip("\n")) for key, value in _PARAMETER.findall(text)]
        return {key: json.loads(value) if is_json(value) else value for key, value in tags}
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


_OPEN, _CLOSE = "<think>", "</think>"

_BEGINNING = "beginning"
_UNDECIDED = "undecided"
"""As `_BEGINNING`, and the template may have opened the thinking."""
_UNCLOSED = "unclosed"
"""Thinking, if a closing tag comes, else the answer."""
_OPENED = "opened"
_INSIDE = "inside"
_GAP = "gap"
_ANSWER = "answer"


class ThinkSplitter:
    """A splitter of a stream into answer and thinking, each in pieces that can be passed on at once.

    >>> splitter = ThinkSplitter()
    >>> [splitter.feed(piece) for piece in ("<thi", "nk>Hm.", "</think>", "4")]
    [('', ''), ('', ''), ('', 'Hm.'), ('4', '')]

    Args:
        may_be_inside: Whether the template may have opened the thinking: then no text is an answer
            before the closing tag or the end.
    """

    def __init__(self, *, may_be_inside: bool = False) -> None:
        self._state: str = _UNDECIDED if may_be_inside else _BEGINNING
        self._held: str = ""
        self._end: str = ""
        self._parts: list[str] = []

    def feed(self, text: str) -> tuple[str, str]:
        """Return (answer, thinking) that are certain by now."""
        if self._state == _ANSWER:
            return text, ""
        thinking = ""
        if self._state in {_BEGINNING, _UNDECIDED}:
            self._held += text
            start = self._held.lstrip()
            if start.startswith(_OPEN):
                text, self._state = start.removeprefix(_OPEN), _OPENED
            elif self._state == _BEGINNING and _OPEN.startswith(start):
                return "", ""
            elif self._state == _BEGINNING:
                text, self._held, self._state = self._held, "", _ANSWER
                return text, ""
            elif len(start) < len(_OPEN):
                return "", ""
            else:
                text, self._state = self._held, _UNCLOSED
            self._held = ""
        if self._state == _UNCLOSED:
            # Kept in parts, and only the end searched: to join them at each token takes too long.
            self._parts.append(text)
            self._end = (self._end + text)[-len(text) - len(_CLOSE) :]
            if _CLOSE not in self._end:
                return "", ""
            thinking, _, text = "".join(self._parts).lstrip().partition(_CLOSE)
            self._parts.clear()
            self._state = _GAP
        if self._state == _OPENED:
            text = text.lstrip("\n")  # line breaks behind the tag belong to nothing
            if not text:
                return "", ""
            self._state = _INSIDE
        if self._state == _INSIDE:
            self._held += text
            if _CLOSE not in self._held:  # its end may be the beginning of the closing tag
                sure = max(len(self._held) - len(_CLOSE) + 1, 0)
                thinking, self._held = self._held[:sure], self._held[sure:]
                return "", thinking
            thinking, _, text = self._held.partition(_CLOSE)
            self._held, self._state = "", _GAP
        text = text.lstrip()  # line breaks between thinking and answer belong to neither
        if text:
            self._state = _ANSWER
        return text, thinking

    def rest(self) -> tuple[str, str]:
        """Return (answer, thinking) that were held back; the text has ended."""
        held = "".join([self._held, *self._parts])
        self._held = self._end = ""
        self._parts.clear()
        return ("", held) if self._state == _INSIDE else (held, "")
