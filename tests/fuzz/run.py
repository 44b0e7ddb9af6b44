"""Fuzz one target: python tests/fuzz/run.py host -atheris_runs=100000 (and any flag of libFuzzer).

Needs `pip install atheris`, which is for Linux and macOS. An input that breaks something is printed, and
kept in the folder that -artifact_prefix names; give that file as an argument to run it alone.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ollama_mcp"]):
    from targets import TARGETS


def main() -> None:
    """Feed it the seeds, and what comes of them."""
    program, name, *flags = sys.argv
    target, seeds = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for place, seed in enumerate(seeds):
            (Path(corpus) / str(place)).write_bytes(seed)
        # An input may be longer than its seeds. What takes 30 s hangs; the alarm that sees to it could ring
        # at the end, too, if it were for much less on a busy machine.
        atheris.Setup([program, "-max_len=2048", "-timeout=30", *flags, corpus], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
