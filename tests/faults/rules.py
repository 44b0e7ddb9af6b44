"""Which code a fault ends in: the table behind "Upstream faults", a row each, the first that fits."""

from __future__ import annotations

from fnmatch import fnmatchcase

from .calls import IN_HEAD, TEXTS
from .kinds import Case
from .play import Seen

OK = "OK"
_STREAMS = "chat|generate|load|pull|push|create"
_GENERATIONS = "chat|generate|load"
_BARE = "copy|delete"
_NOT_ALONE = "load|show|chat-show|tags|ps|version|copy|delete"
"""Whose tools may ask for more: a race whether the end of the connection is seen before they do."""

_TABLE = f"""
fault                                 moment           endpoint         code

garbage|another-answer                after-done       *                OK/NOT_OLLAMA
*                                     after-done       *                OK
reset|close                           after-end        {_NOT_ALONE}     OK/STREAM_BROKEN
reset|close                           after-end        *                OK
reset|close                           *                *                STREAM_BROKEN
silence|blanks-for-ever               *                *                TIMEOUT
trickle|continue-for-ever             *                *                TIMEOUT
line-for-ever|line-long               *                *                BAD_UPSTREAM/TIMEOUT
headers-for-ever                      *                *                NOT_OLLAMA/TIMEOUT

garbage                               first-byte|head  *                NOT_OLLAMA
another-answer                        head             *                NOT_OLLAMA
another-answer                        first-byte       {_GENERATIONS}   OK
another-answer                        first-byte       tags|ps|{_BARE}  OK
another-answer                        first-byte       *                NOT_OLLAMA
garbage|another-answer                *                *                STREAM_BROKEN/BAD_UPSTREAM/NOT_OLLAMA

ends-*                                body|between|before-done  *       TRUNCATED
ends-*                                *                *                BAD_UPSTREAM

line-blank|line-empty-object          *                *                OK
line-null-fields|line-odd-counts      *                *                OK
line-error-null|line-other-object     body             *                NOT_OLLAMA
line-error-null|line-other-object     *                *                OK
line-error-*                          *                *                UPSTREAM
line-crlf|line-odd-names|line-huge-number  body        pull|push|create NOT_OLLAMA
line-crlf|line-odd-names|line-huge-number  *           *                OK
line-odd-calls                        *                generate|load    BAD_UPSTREAM
line-odd-calls                        body             pull|push|create NOT_OLLAMA
line-odd-*                            *                pull|push|create OK
line-*                                *                *                BAD_UPSTREAM

body-error-null|body-other-object     *                *                NOT_OLLAMA
body-error-*                          *                *                UPSTREAM
body-empty-object                     *                embed            BAD_UPSTREAM
body-empty-object                     *                *                OK
body-*                                *                *                BAD_UPSTREAM
field-list-of-*                       *                chat-show        CAPABILITY
vectors-infinite|vectors-too-large    *                embed            OK
field-*|vectors-*                     *                embed            BAD_UPSTREAM
field-*                               *                *                OK

status-*-cut-reset|status-*-cut-close *                *                STREAM_BROKEN
status-*-cut-silence                  *                *                TIMEOUT
status-3*                             *                *                BAD_UPSTREAM
status-200-*                          *                *                NOT_OLLAMA
status-400-overflow                   *                *                CONTEXT_OVERFLOW
status-400-json|status-422-json       *                *                INVALID_ARGUMENT
status-404-*                          *                embed|version    OK
status-405-html|status-405-empty      *                version          OK
status-405-json                       *                *                UPSTREAM
status-401-*|status-403-*|status-407-*  *              *                FORBIDDEN
status-413-*                          *                *                TOO_LARGE
status-429-*                          *                *                RATE_LIMITED
status-4*                             *                *                NOT_OLLAMA
status-503-json                       *                *                BUSY
status-5*                             *                *                UPSTREAM

service-*|length-and-chunked          *                *                NOT_OLLAMA
encoded-*                             *                *                BAD_UPSTREAM
length-too-large*                     *                {_STREAMS}       OK
length-too-large                      *                *                STREAM_BROKEN
length-too-large-waits                *                *                TIMEOUT
length-too-small                      *                *                NOT_OLLAMA/BAD_UPSTREAM
other-object                          *                {_BARE}          OK
other-object                          *                *                NOT_OLLAMA
"""
_ROWS = [
    ([cell.split("|") for cell in cells[:3]], cells[3].split("/"))
    for line in _TABLE.splitlines()[2:]
    if (cells := line.split())
]


def codes(case: Case) -> set[str]:
    """The codes that a case may end in: more than one only where it is a race which comes first.

    Raises:
        LookupError: No row is about it.
    """
    told = (case.fault, case.moment, case.endpoint.name)
    for patterns, found in _ROWS:
        if all(
            any(map(fnmatchcase, [cell] * len(any_of), any_of))
            for cell, any_of in zip(told, patterns, strict=True)
        ):
            late = {"LATE"} if case.endpoint.name == "version" else set[str]()  # status waits for 0.15 s
            return set(found) | late
    raise LookupError(case.id)


def clock(case: Case) -> str:
    """The clock that runs out, if one does."""
    is_head = case.moment in IN_HEAD or case.fault == "headers-for-ever"
    return case.endpoint.timeouts[0 if is_head else 1]


def tries(case: Case) -> int:
    """How often the server is asked: again where it is busy, or where a larger window may help."""
    again = case.fault.startswith(("status-503-", "status-429-")) and "cut" not in case.fault
    grown = case.fault == "status-400-overflow" and case.endpoint.name in {"chat", "generate", "embed"}
    return 2 if (again and not case.endpoint.once) or grown else 1


def check(case: Case, seen: Seen) -> None:
    """Check how a case ended: its code, what the failure says, and that the next call works."""
    code = seen.outcome.code or OK
    assert code in codes(case), seen
    assert seen.asked == tries(case)
    assert (seen.then.code, seen.left) == ("", True)
    if code == OK:
        if case.endpoint.texts and case.moment != "first-byte":
            assert seen.outcome.text.startswith("".join(TEXTS))
    elif seen.outcome.error:
        _check_failure(case, seen, code)


def _check_failure(case: Case, seen: Seen, code: str) -> None:
    text, error = seen.outcome.text, seen.outcome.error
    assert text.startswith(f"{code}: ")
    assert len(text) <= 400
    assert error["error_id"] is None
    if code == "TIMEOUT":
        assert error["clock"] == clock(case)
    if case.fault.startswith("status-") and code not in {"MODEL_NOT_FOUND", "CONTEXT_OVERFLOW"}:
        # those two are told with more than the answer itself said
        assert error["upstream_status"] == (None if "cut" in case.fault else int(case.fault[7:10]))
    if case.endpoint.texts and case.moment != "answer" and code != "NOT_OLLAMA":
        assert error["partial_text"] == case.endpoint.text_until(case.moment)
