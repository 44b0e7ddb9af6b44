#!/usr/bin/env python3
"""Write docs/screens: what commands print on terminals of 80 and 120 columns, as SVG for light and dark.

Each is a real run in a pseudo-terminal, with the embedded engine as its Ollama and a home of its own, in
which Cursor is installed: `.venv/bin/python scripts/screens.py [NAME ...]`. It takes three minutes.
"""

from __future__ import annotations

import fcntl
import html
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "screens"
COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))
SCREENS = {
    "help": ["--help"],
    "setup": ["setup", "cursor", "--yes"],
    "doctor": ["doctor"],
    "demo": ["demo", "--embedded"],
}
COLUMNS = (80, 120)
CLASSES = {"1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow", "36": "cyan"}
STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
text { fill: #1f2328; }
rect { fill: #ffffff; stroke: #d1d9e0; }
.bold { font-weight: bold; } .dim { fill: #59636e; } .red { fill: #d1242f; }
.green { fill: #1a7f37; } .yellow { fill: #9a6700; } .cyan { fill: #1b7c83; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; } rect { fill: #0d1117; stroke: #3d444d; }
.dim { fill: #9198a1; } .red { fill: #f85149; } .green { fill: #3fb950; }
.yellow { fill: #d29922; } .cyan { fill: #39c5cf; }
}
"""
CHARACTER, LINE, MARGIN = 8.43, 19, 14
"""Pixels."""


def run(args: list[str], columns: int, environment: dict[str, str]) -> str:
    """Run the command in a terminal; return what it printed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    child = subprocess.Popen(  # noqa: S603
        [COMMAND, *args], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:  # Linux says so at the end
        pass
    os.close(ours)
    if child.wait():
        raise SystemExit(f"{args} ended with {child.returncode}:\n{said.decode()}")
    return said.decode().replace("\r\n", "\n").rstrip()


def svg(text: str, columns: int) -> str:
    """Return a screen as SVG; of ANSI's sequences it knows those that our own commands write."""
    lines = text.split("\n")
    rows: list[str] = []
    for number, line in enumerate(lines, 1):
        name, spans = "", ""
        for place, part in enumerate(re.split(r"\x1b\[([\d;]*)m", line)):
            if place % 2:
                name = CLASSES.get(part, "")
            elif part:
                spans += f'<tspan class="{name}">{html.escape(part)}</tspan>' if name else html.escape(part)
        rows.append(
            f'<text x="{MARGIN}" y="{MARGIN + LINE * number - 5}" xml:space="preserve">{spans}</text>'
        )
    width, height = columns * CHARACTER + 2 * MARGIN, LINE * len(lines) + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}">\n'
        f"<style>{STYLE}</style>\n"
        f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1}" rx="6"/>\n'
        + "\n".join(rows)
        + "\n</svg>\n"
    )


def main(names: list[str]) -> None:
    """Write the screens of these names, or all."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        cursor = Path(home, ".cursor")
        environment = {
            "PATH": f"{Path(COMMAND).parent}:/usr/bin:/bin",
            "HOME": home,
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "OLLAMA_MCP_CACHE": os.environ.get(
                "OLLAMA_MCP_CACHE", str(Path("~/.cache/ollama-mcp").expanduser())
            ),
        }
        engine = subprocess.Popen(  # noqa: S603
            [COMMAND, "embedded", "serve", "--port", "0"], stdout=subprocess.PIPE, env=environment, text=True
        )
        try:
            found = re.search(r"http://[\d.:]+", engine.stdout.readline() if engine.stdout else "")
            if found is None:
                raise SystemExit("The embedded engine does not start.")
            environment |= {"OLLAMA_HOST": found[0]}
            for name in names or SCREENS:
                for columns in COLUMNS:
                    cursor.mkdir(exist_ok=True)
                    if name == "setup":
                        (cursor / "mcp.json").unlink(missing_ok=True)
                    given = dict(environment)
                    if name == "doctor":  # it lists what differs from the default
                        given |= {"OLLAMA_MCP_CHATMODEL": "smollm2:135m", "OLLAMA_MCP_KEEP_ALIVE": "30m"}
                        del given["OLLAMA_MCP_CACHE"]
                    text = run(SCREENS[name], columns, given)
                    for path, shown in {str(ROOT): "~/ollama-mcp", home: "~"}.items():
                        text = text.replace(path, shown)
                    line = f"\x1b[2m$\x1b[0m \x1b[1mollama-mcp {' '.join(SCREENS[name])}\x1b[0m"
                    (OUT / f"{name}-{columns}.svg").write_text(svg(f"{line}\n{text}", columns), "utf-8")
        finally:
            engine.terminate()
            engine.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
