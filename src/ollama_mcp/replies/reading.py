"""A finished text, read tolerantly before a second generation is spent on it.

Models put what they mean into marks of their own: thinking before the answer, JSON into a fence or
between words, a call of a tool into text. What is meant in one way only is taken so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from ollama_mcp.errors import OllamaError, Upstream
from ollama_mcp.wire import ToolCall, ToolFunction

# --- thinking ------------------------------------------------------------------------------------

_PAIRS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, QwQ, SmolLM3 and most others
    ("<thinking>", "</thinking>"),  # GLM-4.1V, Granite 3.2's community templates, Claude-tuned models
    ("<thought>", "</thought>"),  # Gemma and Hermes tunes
    ("<reasoning>", "</reasoning>"),  # Reka Flash 3, GRPO tunes
    ("<reflection>", "</reflection>"),  # Reflection tunes
    ("<seed:think>", "</seed:think>"),  # ByteDance Seed-OSS
    ("[THINK]", "[/THINK]"),  # Mistral's Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere's Command A Reasoning
    ("◁think▷", "◁/think▷"),  # Moonshot's Kimi-VL-Thinking
    ("<|channel|>analysis<|message|>", "<|end|>"),  # OpenAI's gpt-oss (harmony)
    ("<|channel>thought", "<channel|>"),  # Gemma 4
)
"""How models mark their thinking, by those who do; only at the beginning of a text."""
_AFTER = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|<\|START_RESPONSE\|>")
"""Marks that begin the answer itself."""
_END = re.compile(r"(?:<\|return\|>|<\|END_RESPONSE\|>|<\|eot_id\|>|<\|im_end\|>)\s*\Z")
_QUOTES = "`'\"“‘«"


def without_thinking(text: str) -> tuple[str, str]:
    r"""Part a text into answer and thinking.

    Thinking stands between marks at the beginning, or before a closing mark whose opening one was in the
    template. A mark that is quoted, or in a block of code, is a part of the answer.

    >>> without_thinking("2+2 is 4.\n</think>\n\n4"), without_thinking("[THINK]Hm.[/THINK]4")
    (('4', '2+2 is 4.\n'), ('4', 'Hm.'))
    >>> without_thinking("The tag `</think>` ends it.")
    ('The tag `</think>` ends it.', '')
    """
    start = text.lstrip()
    for opening, closing in _PAIRS:
        if start.startswith(opening):
            thinking, mark, answer = start.removeprefix(opening).partition(closing)
            if mark:
                return _plain_answer(answer), thinking.lstrip("\n")
    for _, closing in _PAIRS[:-2]:  # the ends of the others stand elsewhere, too
        at = text.find(closing)
        if at >= 0 and not _is_quoted(text, at, closing):
            return _plain_answer(text[at + len(closing) :]), text[:at]
    return text, ""


def _plain_answer(text: str) -> str:
    return _END.sub("", _AFTER.sub("", text, count=1)).lstrip()


def _is_quoted(text: str, at: int, mark: str) -> bool:
    beside = text[at - 1 : at] + text[at + len(mark) : at + len(mark) + 1]
    return any(quote in beside for quote in _QUOTES) or text.count("```", 0, at) % 2 == 1


# --- JSON ----------------------------------------------------------------------------------------

_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_MOST_STARTS = 64
"""Places in a text at which JSON is looked for."""


def is_json(text: str) -> bool:
    """Whether a text is JSON as it stands."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_inside(text: str, *, in_fences_only: bool = False, at_first: bool = False) -> list[str]:
    """The objects and lists of JSON in a text that has more than that: in fences, else between its words.

    Args:
        text: What the model wrote.
        in_fences_only: Whether words say nothing: what stands in a text that was cut off may be a part.
        at_first: Whether the first bracket has to begin it; without a schema a part looks like a whole.
    """
    fenced = [found[1].strip() for found in _FENCE.finditer(text)]
    whole = [inner for inner in fenced if inner[:1] in ("{", "[") and is_json(inner)]
    return list(dict.fromkeys(whole or ([] if in_fences_only else _between_words(text, at_first=at_first))))


def _between_words(text: str, *, at_first: bool) -> Iterator[str]:
    decoder, at = json.JSONDecoder(), 0
    for _ in range(_MOST_STARTS):
        start = min((place for place in (text.find("{", at), text.find("[", at)) if place >= 0), default=-1)
        if start < 0:
            return
        try:
            _, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            if at_first:
                return
            at = start + 1
        else:
            yield text[start:at]


# --- calls of tools ------------------------------------------------------------------------------

_MARKED = (
    # Qwen 2.5 and 3, Hermes 2 and 3, and all that were trained on their template.
    re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL),
    # Granite 3, Phi-4-mini.
    re.compile(r"<\|tool_call\|>\s*(.*?)\s*(?:<\|/tool_call\|>|\Z)", re.DOTALL),
    # Llama 3.1 to 3.3.
    re.compile(r"<\|python_tag\|>\s*(.*?)\s*(?:<\|eom_id\|>|<\|eot_id\|>|\Z)", re.DOTALL),
    # Mistral 7B v0.3, Nemo, Small.
    re.compile(r"\[TOOL_CALLS\]\s*(\[.*\])", re.DOTALL),
    # Firefunction, Phi-4.
    re.compile(r"\bfunctools\s*(\[.*\])", re.DOTALL),
    # Qwen2.5-Coder, Gemma 2 and 3, and whoever answers as in a chat.
    re.compile(r"```(?:json|tool_call|tool_code|xml)?[ \t]*\n?\s*([\[{].*?[\]}])\s*```", re.DOTALL),
)
"""How models mark a call, each with those that do; in the group is what JSON says of it."""
_NAMED = re.compile(r"<function=([\w.-]+)>\s*(.*?)\s*</function>", re.DOTALL)
"""Llama 3.1's custom format, with JSON inside; Qwen3-Coder's, with a tag for each parameter."""
_PARAMETER = re.compile(r"<parameter=([\w.-]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_CALLS_ALONE = re.compile(r"\s*[\[{].*[\]}]\s*\Z", re.DOTALL)


def printed_calls(text: str, tools: Sequence[Mapping[str, Any]]) -> tuple[str, list[ToolCall]]:
    """Part a text into its words and the calls that it prints, where every name is one of those offered.

    Raises:
        Upstream: A call of an offered tool is marked as one, and its arguments cannot be read.
    """
    names = _names(tools)
    if not names:
        return text, []
    calls: list[ToolCall] = []
    for found in _NAMED.finditer(text):
        if found[1] not in names:
            return text, []
        calls.append(_call(found[1], _arguments(found[1], found[2])))
    if calls:
        return re.sub(r"</?tool_call>", "", _NAMED.sub("", text)).strip(), calls
    for marks in _MARKED:
        is_fence = marks.pattern.startswith("```")
        for found in marks.finditer(text):
            rows = _calls_in(found[1], names)
            if rows is None and not is_fence:
                _refuse_broken(found[1], names)
            if rows is None:
                return text, []
            calls += rows
        if calls:
            return marks.sub("", text).strip(), calls
    alone = _calls_in(text, names) if _CALLS_ALONE.match(text) else None
    return ("", alone) if alone else (text, [])


def _names(tools: Sequence[Mapping[str, Any]]) -> set[str]:
    functions = [tool.get("function") for tool in tools]
    return {str(f.get("name")) for f in cast("list[Any]", functions) if isinstance(f, Mapping)}  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _calls_in(text: str, names: Collection[str]) -> list[ToolCall] | None:
    """The calls that JSON says; None where it is something else, such as an answer."""
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
        key = next((key for key in ("arguments", "parameters", "args", "input") if key in fields), "")
        given: Any = fields[key] if key else {}
        if isinstance(given, str):
            given = _arguments(fields["name"], given)
        if not isinstance(given, dict):
            return None
        found.append(_call(fields["name"], cast("dict[str, Any]", given)))
    return found or None


def _call(name: str, arguments: dict[str, Any]) -> ToolCall:
    return ToolCall(function=ToolFunction(name=name, arguments=arguments))


def _arguments(name: str, text: str) -> dict[str, Any]:
    """The arguments of a call that is marked as one, as JSON or as a tag for each.

    Raises:
        Upstream: They cannot be read.
    """
    if tags := _PARAMETER.findall(text):
        return {key: json.loads(value) if is_json(value) else value for key, value in tags}
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise broken_call(name) from None
    if not isinstance(value, dict):
        raise broken_call(name)
    return cast("dict[str, Any]", value)


def _refuse_broken(text: str, names: Collection[str]) -> None:
    """Raise for a call of an offered tool in JSON that cannot be read."""
    found = re.search(r"\"name\"\s*:\s*\"([^\"\\]*)\"", text)
    if found and found[1] in names and not is_json(text):
        raise broken_call(found[1])


def broken_call(name: str = "") -> OllamaError:
    """A call of a tool that the model began and did not get right."""
    which = f" of {name}" if name else ""
    return Upstream(
        f"the model wrote a call{which} whose arguments cannot be read",
        "Ask again, in other words or with fewer tools, or name a more capable model.",
    )
