"""The official conformance suite's tasks-* scenarios: `run.py NODE [URL]`, a Node of 22 or newer.

They are run against `host.py`, or against the server of a URL for comparison. Every check must succeed but
those that the suite itself skips.
"""

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

HERE = Path(__file__).parent
SUITE = HERE / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
KNOWN = 10
"""Scenarios of the version that package.json names."""
PATIENCE = 60
"""Seconds for one scenario, and for the start of the host."""


@contextmanager
def host() -> Iterator[str]:
    """The host, once it takes connections; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, HERE / "host.py", str(port)]) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert process.poll() is None, "the host ended"
                    assert time.monotonic() < deadline, "the host does not start"
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.terminate()


def checks(node: str, url: str, scenario: str) -> list[dict[str, str]]:
    """Run one scenario, and return its checks."""
    with tempfile.TemporaryDirectory() as folder:
        command = [node, SUITE, "server", "--url", url, "--scenario", scenario, "-o", folder]
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        found = [
            check
            for path in Path(folder).rglob("checks.json")
            for check in json.loads(path.read_text("utf-8"))
        ]
    assert found, (scenario, run.stdout[-2000:], run.stderr[-2000:])
    return found


def main(node: str, url: str | None) -> int:
    listed = subprocess.run([node, SUITE, "list", "--server"], capture_output=True, text=True, check=True)
    scenarios = re.findall(r"- (tasks-\S+)", listed.stdout)
    assert len(scenarios) == KNOWN, scenarios
    failed = 0
    with host() if url is None else nullcontext(url) as address:
        for scenario in scenarios:
            found = checks(node, address, scenario)
            counts = Counter(check["status"] for check in found)
            print(f"{scenario}: {', '.join(f'{count} {status}' for status, count in sorted(counts.items()))}")
            for check in found:
                if check["status"] not in {"SUCCESS", "SKIPPED", "INFO"}:
                    failed += 1
                    print(f"    {check['id']}: {check.get('errorMessage')}")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
