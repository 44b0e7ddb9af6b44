"""`ollama-mcp doctor`: the verdict, then what works, what does not, and what to do about it."""

from __future__ import annotations

import json
import platform
import sys
import textwrap
from dataclasses import asdict
from itertools import groupby

from ollama_mcp import __version__
from ollama_mcp.app import App
from ollama_mcp.cli.checks import CHAT, Examination, Finding
from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.output import StatusLine, mark, paint, shown_path, width
from ollama_mcp.settings import Settings


def doctor(settings: Settings, *, as_json: bool = False) -> int:
    """Print the report; returns 0 only if the server starts and a chat works."""
    installation = Installation.find()
    line = StatusLine()
    try:
        findings = Examination(App.create(settings), installation, line.show).run()
    finally:
        line.clear()
    works = any(one.is_good and one.text.startswith(CHAT) for one in findings)
    starts = not any(one.stops for one in findings)
    _report(installation, findings, works=works, starts=starts, as_json=as_json)
    return 0 if works and starts else 1


def report_wrong_settings(problems: list[str], *, as_json: bool = False) -> int:
    """Print the report of settings with which no server starts; returns 2."""
    remedy = "Correct it, or take it out."
    findings = [Finding("Settings", problem, False, remedy, stops=True) for problem in problems]
    _report(Installation.find(), findings, works=False, starts=False, as_json=as_json)
    return 2


def _report(
    installation: Installation, findings: list[Finding], *, works: bool, starts: bool, as_json: bool
) -> None:
    if as_json:
        print(json.dumps(_data(installation, findings, works=works, starts=starts), indent=2))
    else:
        _print(installation, findings, works=works, starts=starts)


def _verdict(findings: list[Finding], *, works: bool, starts: bool) -> str:
    problems = [one for one in findings if one.is_good is False]
    if not starts:
        stopping = next(one for one in problems if one.stops)
        return f"The server does not start: {stopping.text}"
    if not works:
        first = next((one for one in problems if one.section == "Ollama"), None)
        return f"A chat does not work yet{f': {first.text}' if first else ''}"
    if not problems:
        return "All is well: the server starts, and a chat works."
    count = "One other thing does" if len(problems) == 1 else f"{len(problems)} other things do"
    return f"A chat works. {count} not."


def _print(installation: Installation, findings: list[Finding], *, works: bool, starts: bool) -> None:
    is_well = works and starts
    verdict = _verdict(findings, works=works, starts=starts)
    print(_wrapped(verdict, f"{mark(is_well)} ", paint_as="bold"))
    print(f"  ollama-mcp {__version__}, Python {platform.python_version()} ({installation.kind})")
    print(f"  {shown_path(installation.program or installation.python)}")
    for section, rows in groupby(findings, key=lambda one: one.section):
        print(f"\n{paint(section, 'bold')}")
        for one in rows:
            sign = " " if one.is_good is None else mark(one.is_good)
            took = "" if one.seconds is None else f" ({one.seconds:.1f} s)"
            # A table keeps its columns.
            print(
                f"{sign} {one.text[: width() - 2]}"
                if section == "Models"
                else _wrapped(one.text + took, f"{sign} ")
            )
            if one.remedy:
                print(_wrapped(one.remedy, "    -> ", paint_as="cyan"))


def _wrapped(text: str, head: str, paint_as: str = "") -> str:
    """Return a text in lines that fit, behind a head."""
    indent = 7 if head.startswith("    ") else 2
    lines = textwrap.wrap(text, width() - indent, break_long_words=False, break_on_hyphens=False) or [""]
    lines = [paint(line, paint_as) if paint_as else line for line in lines]
    return head + f"\n{' ' * indent}".join(lines)


def _data(
    installation: Installation, findings: list[Finding], *, works: bool, starts: bool
) -> dict[str, object]:
    return {
        "verdict": _verdict(findings, works=works, starts=starts),
        "chat_works": works,
        "server_starts": starts,
        "version": __version__,
        "python": sys.executable,
        "program": installation.program,
        "installed_by": installation.kind,
        "findings": [asdict(one) for one in findings],
    }
