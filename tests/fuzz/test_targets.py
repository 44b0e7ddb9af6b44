"""The fuzz targets hold for their seeds, and notice when something does not."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location("fuzz_targets", Path(__file__).with_name("targets.py"))
assert _SPEC is not None
targets: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(targets)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_target_holds_for_its_seeds_and_their_beginnings(name: str):
    target, seeds = targets.TARGETS[name]
    for seed in seeds:
        for end in range(0, len(seed) + 1, 1 + len(seed) // 50):
            target(seed[:end])
