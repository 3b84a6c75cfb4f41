"""The engine against what the original did (`make record-virtualhome`): the benchmark's programs, random scripts."""

import json
import lzma
from functools import cache
from typing import Any

import pytest

from agentgym_prm.envs.virtualhome.engine import Engine
from tests.live.virtualhome_parity import RECORDED, apartment, data_folder, digest, program

MIN_PROGRAMS, MIN_SCRIPTS = 388, 100


@pytest.fixture(scope="module", autouse=True)
def _data() -> None:
    needed = data_folder() / "tasks_scene1.jsonl.gz"
    if not needed.is_file():
        pytest.skip(f"no {needed}: let $AGENTGYM_PRM_TEST_DATA name the folder that holds virtualhome/")


@cache
def recorded() -> dict[str, Any]:
    with lzma.open(RECORDED, "rt", encoding="utf-8") as file:
        return json.load(file)


def assert_replays(name: str, lines: list[str], digests: str) -> None:
    engine = Engine()
    engine.reset(apartment(name))
    for index, line in enumerate(lines):
        execution = engine.execute(line, index)
        assert digest(execution, engine.changes()) == digests[8 * index : 8 * index + 8], (name, index, line, execution)


def test_the_benchmarks_programs_replay_identically():
    assert len(recorded()["programs"]) >= MIN_PROGRAMS
    for name, digests in recorded()["programs"]:
        lines = program(name)
        assert len(digests) == 8 * len(lines)
        assert_replays(name, lines, digests)
        apartment.cache_clear()


def test_random_scripts_replay_identically():
    assert len(recorded()["scripts"]) >= MIN_SCRIPTS
    for name, lines, digests in recorded()["scripts"]:
        assert_replays(name, lines, digests)


def test_a_replay_notices_one_edge():
    name, lines, digests = recorded()["scripts"][0]
    with pytest.raises(AssertionError):
        assert_replays(name, lines, digests[8:] + digests[:8])


def test_repaired_all_but_two_of_the_benchmarks_programs_run_to_their_end():
    """Two grab what they hold already: the release that they were made with forgot what was grabbed."""
    stopped = []
    for name, _ in recorded()["programs"]:
        engine = Engine(repaired=True)
        engine.reset(apartment(name))
        if not all(engine.execute(line).success for line in program(name)):
            stopped.append(name)
        apartment.cache_clear()
    assert len(stopped) == 2
