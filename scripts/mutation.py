"""Mutation testing: break the code in every way that mutmut knows, and see whether a test notices.

pip install mutmut
python scripts/mutation.py                  # every group; hours on a small machine
python scripts/mutation.py ndjson host      # some of them
python scripts/mutation.py --survivors …    # with what each surviving mutant changed
python scripts/mutation.py --sample 60 …    # that many of each group, drawn at random, the same each time

A report without a threshold: a mutant that lives may be a missing test, code that does nothing, or one that
means the same. mutmut leaves decorated functions alone.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A group: the modules that are mutated, and the tests that have to notice.
GROUPS = {
    "ndjson": ("ollama/ndjson", "ollama_api/test_ndjson"),
    "rate": ("jobs/rate_limit", "jobs/test_rate_limit"),
    "gate": ("jobs/model_queue", "jobs/test_model_queue_texts jobs/test_model_queue"),
    "errors": ("errors", "test_errors client/test_scrub"),
    "host": ("ollama/hosts", "ollama_api/test_hosts"),
    "listening": ("settings/listening", "settings/test_listening"),
    "names": ("ollama/model_names", "ollama_api/test_options model_management/test_names"),
    "confirmation": (
        "services/confirmation",
        "model_management/test_confirmation model_management/test_model_manager",
    ),
    "reply": ("jobs/job", "jobs/test_status_line services/test_job_store services/test_generation"),
    "kept": ("jobs/store", "jobs/test_kept_jobs services/test_job_store"),
    "registry": ("jobs/store", "jobs/test_job_results services/test_job_store services/test_generation"),
    "answer": (
        "jobs/answers",
        (
            "jobs/test_answers services/test_generation services/test_think_splitter "
            "services/test_context_window"
        ),
    ),
    "progress": ("jobs/progress", "jobs/test_progress"),
    "context": ("services/context_window", "services/test_context_window services/test_embedding"),
    "generation": (
        "services/generation",
        (
            "services/test_stats services/test_generation services/test_context_window services/test_schema "
            "services/test_clamp"
        ),
    ),
    "embedding": ("services/embedding", "services/test_vectors services/test_embedding"),
    "ranking": ("services/embedding", "services/test_ranking"),
    "comparing": ("services/compare", "services/test_compare"),
    "schema_validator": ("services/schema", "services/test_schema_validator services/test_schema"),
    "schema": ("services/schema", "services/test_schema"),
    "thinking": ("services/model_output", "services/test_think_splitter"),
    "clamp": ("services/clamp", "services/test_clamp"),
}


@dataclass
class Result:
    """The outcome of one group: names of the killed mutants, changes of those that live."""

    killed: list[str] = field(default_factory=list[str])
    survived: list[str] = field(default_factory=list[str])

    @property
    def score(self) -> float:
        """Per cent killed."""
        tried = len(self.killed) + len(self.survived)
        return 100 * len(self.killed) / tried if tried else 0.0


class Workshop:
    """A copy of the sources in which one group is mutated."""

    def __init__(self, folder: Path, group: str, sample: int | None = None) -> None:
        self._modules, self._tests = (part.split() for part in GROUPS[group])
        self._folder = folder / group
        self._mutants = self._folder / "mutants"
        self._sample = sample

    def run(self) -> None:
        """Make the mutants and run the tests on each, one after the other."""
        self._furnish()
        self._start(sys.executable, "-c", _MAKE)
        self._start(_mutmut(), "run", "--max-children", "1", *self._drawn())

    def _start(self, *command: str) -> None:
        # Children of a test import the mutants, too.
        environment = {**os.environ, "PYTHONPATH": str(self._mutants / "src")}
        subprocess.run(command, cwd=self._folder, env=environment, check=True)  # noqa: S603 - programs of ours

    def _drawn(self) -> list[str]:
        """The mutants to try; none is all."""
        names = sorted(name for module in self._modules for name in self._noted(module))
        if self._sample is None or self._sample >= len(names):
            return []
        return random.Random(len(names)).sample(names, self._sample)  # noqa: S311 - no secret

    def _noted(self, module: str) -> dict[str, int | None]:
        """What mutmut notes of each mutant of a module."""
        noted = self._mutants / f"src/ollama_mcp/{module}.py.meta"
        return json.loads(noted.read_text("utf-8"))["exit_code_by_key"]

    def _furnish(self) -> None:
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, self._folder / part, dirs_exist_ok=True, ignore=_LITTER)
        shutil.rmtree(self._mutants, ignore_errors=True)
        (self._mutants / "src").mkdir(parents=True)  # else Python notes at its start that it is not there
        config = {
            "source_paths": ["src"],
            "only_mutate": [f"src/ollama_mcp/{module}.py" for module in self._modules],
            "pytest_add_cli_args_test_selection": [f"tests/{test}.py" for test in self._tests],
            "pytest_add_cli_args": ["-n", "0"],
            "use_git_change_detection": False,
            "timeout_multiplier": 6.0,  # of 15, some mutants would run on for minutes each
        }
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in config.items()]
        project = (ROOT / "pyproject.toml").read_text("utf-8")
        (self._folder / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{''.join(lines)}", "utf-8")

    def result(self) -> Result:
        """What the run found."""
        found = Result()
        drawn = self._drawn()
        for module in self._modules:
            changes = _Changes((self._mutants / f"src/ollama_mcp/{module}.py").read_text("utf-8"))
            for name, status in self._noted(module).items():
                if drawn and name not in drawn:
                    continue
                if status not in _LIVES:
                    found.killed.append(name)
                    continue
                found.survived.append(changes.of(name))
        return found


_MAKE = """
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.setup_source_paths()
mutmut.create_mutants(1)
"""
"""The first steps of `mutmut run`, which has no command for them: a sample is drawn from their names."""

_LIVES = (0, 5, 33, None)
"""What mutmut notes of a mutant that passed its tests, has none, or was not tried."""


class _Changes:
    """What each mutant of a file changed: mutmut writes every one as a function beside the original."""

    def __init__(self, source: str) -> None:
        lines = source.splitlines()
        self._functions = {
            node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
            .replace(node.name, "", 1)
            .splitlines()
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }

    def of(self, mutant: str) -> str:
        """A name that stays when other code changes (the function, and the lines it got), and the diff."""
        name = mutant.rpartition(".")[2]
        function, _, _ = name.rpartition("__mutmut_")
        before, after = self._functions[f"{function}__mutmut_orig"], self._functions[name]
        changed = [line for line in difflib.unified_diff(before, after, lineterm="", n=0) if line[:2] != "@@"]
        got = " ".join(line[1:].strip() for line in changed[2:] if line.startswith("+"))
        where = mutant.rpartition("__mutmut_")[0].removeprefix("ollama_mcp.")
        return "\n".join([f"{where}: {got}", *changed[2:]])


_LITTER = shutil.ignore_patterns("__pycache__", "node_modules", ".*_cache")


def _mutmut() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "mutmut")


def _row(group: str, found: Result) -> str:
    counts = [len(found.killed), len(found.survived)]
    numbers = "".join(f"{number:10}" for number in (sum(counts), *counts))
    return f"{group:14}{numbers}{found.score:9.1f} %"


def main() -> None:
    """Do what argv says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], metavar="group", help=", ".join(GROUPS))
    parser.add_argument("--survivors", action="store_true", help="show what each survivor changed")
    parser.add_argument("--sample", type=int, help="how many mutants of a group (default: all)")
    parser.add_argument("--work", type=Path, help="where to work (default: a new folder, removed at the end)")
    arguments = parser.parse_args()
    folder = arguments.work or Path(tempfile.mkdtemp())
    rows: list[str] = []
    try:
        for group in arguments.groups or GROUPS:
            workshop = Workshop(folder, group, arguments.sample)
            workshop.run()
            found = workshop.result()
            rows.append(_row(group, found))
            for change in found.survived if arguments.survivors else ():
                print(f"\n{change}")
    finally:
        if arguments.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{'group':14}{'mutants':>10}{'killed':>10}{'survived':>10}{'score':>11}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
