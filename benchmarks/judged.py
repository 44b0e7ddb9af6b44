"""The judged questions of tests/services/test_judged.py: their vectors, and the passages that they ask for.

    python benchmarks/judged.py               # vectors anew, of what judged.json says
    python benchmarks/judged.py --passages    # before that, passages anew of README.md and docs

Questions and judgements are written by hand in judged.json; `right` has the places of the passages to find.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from minilm import embed

from ollama_mcp.services.retrieval import UNRELATED
from ollama_mcp.services.splitting import split_text

ROOT = Path(__file__).resolve().parent.parent
JUDGED = ROOT / "tests/services/judged.json"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PIECE, SHORTEST = 400, 60
"""Characters of a passage at most and at least."""


def passages() -> list[dict[str, str]]:
    """Return README and docs in pieces, each under its page and heading."""
    return [
        {"title": f"{page.name}: {heading}", "text": text}
        for page in PAGES
        for heading, body in _sections(re.sub(r"<!--.*?-->\n?", "", page.read_text("utf-8")))
        for text in split_text(body, PIECE)
        if len(text) >= SHORTEST
    ]


def _sections(text: str) -> Iterator[tuple[str, str]]:
    heading, body, is_code = "", [], False
    for line in text.splitlines():
        is_code ^= line.lstrip().startswith("```")
        if not is_code and (found := re.match(r"#+ (.*)", line)):
            yield heading, "\n".join(body)
            heading, body = found[1], []
        else:
            body.append(line)
    yield heading, "\n".join(body)


def put_passages(judged: dict[str, Any]) -> None:
    """Put today's passages in, and print each question that has lost one which answers it."""
    old = [passage["text"] for passage in judged["passages"]]
    judged["passages"] = passages()
    places = {passage["text"]: place for place, passage in enumerate(judged["passages"])}
    for question in judged["questions"]:
        texts = [old[place] for place in question["right"]]
        question["right"] = [places[text] for text in texts if text in places]
        for text in texts:
            if text not in places:
                print(f"judge anew: {question['question']}\n  was answered by: {' '.join(text.split())}")


def write(judged: dict[str, Any]) -> None:
    """Write one passage or question a line."""
    groups = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(e, ensure_ascii=False) for e in entries) + "\n]"
        for name, entries in judged.items()
    ]
    JUDGED.write_text("{" + ",\n".join(groups) + "}\n", "utf-8")


def main() -> None:
    """Make the vectors anew."""
    judged = json.loads(JUDGED.read_text("utf-8"))
    if "--passages" in sys.argv[1:]:
        put_passages(judged)
        write(judged)
    groups = {
        "passages": [f"{passage['title']}\n{passage['text']}" for passage in judged["passages"]],
        "questions": [question["question"] for question in judged["questions"]],
        "others": judged["others"],
        "unrelated": list(UNRELATED),
    }
    vectors = embed([text for texts in groups.values() for text in texts]).astype(np.float16)
    ends = np.cumsum([len(texts) for texts in groups.values()])[:-1]
    np.savez_compressed(JUDGED.with_suffix(".npz"), **dict(zip(groups, np.split(vectors, ends), strict=True)))
    print({name: len(texts) for name, texts in groups.items()})


if __name__ == "__main__":
    main()
