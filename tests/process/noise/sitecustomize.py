"""A library that prints in every way that there is; put on a process as its sitecustomize."""

import atexit
import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
import warnings


def _say(text: str) -> None:
    print(text)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=1)


def _make_noise() -> None:
    libc = ctypes.CDLL(None)
    print("print")
    sys.stdout.write("sys.stdout.write")  # without a line end, too
    sys.__stdout__.write("sys.__stdout__\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(b"sys.stdout.buffer\n")
    sys.stdout.buffer.flush()
    os.write(1, b"os.write\n")
    libc.write(1, b"write of C\n", 11)
    libc.printf(b"printf of C\n")
    libc.fflush(None)
    subprocess.run(["/bin/echo", "echo"], check=True)
    logging.getLogger("noisy").error("logging")
    _warn("warnings")


def _whenever_it_serves() -> None:
    while os.fstat(1) != os.fstat(2):  # until the server has taken stdout for the wire
        time.sleep(0.01)
    logging.getLogger("noisy").addHandler(logging.StreamHandler(sys.stdout))
    warnings.simplefilter("always")
    while True:
        _make_noise()
        time.sleep(0.05)


class _Importing:
    """Says at once when the SDK is imported, which some libraries do of themselves."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "mcp":
            os.write(1, b"while it is imported\n")


sys.meta_path.insert(0, _Importing)
_say("before the server")
atexit.register(_say, "at exit")
threading.Thread(target=_whenever_it_serves, daemon=True).start()
