"""The command itself, which on SIGUSR1 writes to a descriptor how many asyncio tasks it holds.

    COUNT_FD=5 python benchmarks/counted.py [ARGUMENTS OF ollama-mcp]

Nothing else is different: what /proc cannot show of a process is asked by a signal, on a pipe of its own.
"""

import asyncio
import os
import signal

from ollama_mcp.cli import main

FD = int(os.environ.pop("COUNT_FD"))


def _count(_signum: int, _frame: object) -> None:
    os.write(FD, b"%d\n" % len(asyncio.all_tasks()))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _count)
    raise SystemExit(main())
