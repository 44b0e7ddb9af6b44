"""SIGUSR1 blocks the event loop for half a minute, as a tool that computes would."""

import signal
import sys
import time


def _block(*_: object) -> None:
    print("blocked", file=sys.stderr, flush=True)
    end = time.monotonic() + 30
    while time.monotonic() < end and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        time.sleep(0.01)
    print("asked to end", file=sys.stderr, flush=True)
    time.sleep(30)


signal.signal(signal.SIGUSR1, _block)
