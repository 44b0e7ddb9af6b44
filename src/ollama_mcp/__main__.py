"""`python -m ollama_mcp` is the command `ollama-mcp`."""

from __future__ import annotations

import gc
import signal


def main() -> int:
    """Run the command. Until it begins, Ctrl-C ends the process without a word: imports take a while."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as behind nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # until all is loaded: to find out that it is no garbage is a seventh of the start
    from ollama_mcp import cli  # noqa: PLC0415 - what takes a while

    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
