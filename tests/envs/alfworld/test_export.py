"""Builtin games as files: what is written is what the benchmark's tools expect, and reads back unchanged."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from agentgym_prm.envs.alfworld.dialect import CURRENT, Dialect, domain_text, recognise, split_task
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.export import export_builtin_games, format_problem, game_file, write_game
from agentgym_prm.envs.alfworld.game import Game, GameDescription, parse_problem
from agentgym_prm.envs.alfworld.generate import DIFFICULTIES, SPLIT_SIZES, describe
from agentgym_prm.envs.alfworld.goal import Goal

TINY = GameDescription(
    task_id="builtin-small/train/000000/pick_clean_then_place_in_recep-HandTowel-ToiletPaperHanger",
    task="put a clean handtowel in toiletpaperhanger.",
    facts=(
        ("receptacletype", "sink_bar__plus_01_dot_20_bar_sinkbasin", "sinkbasintype"),
        ("objecttype", "handtowel_bar__plus_01_dot_00", "handtoweltype"),
        ("atlocation", "agent1", "loc_bar_0"),
        ("inreceptacle", "handtowel_bar__plus_01_dot_00", "sink_bar__plus_01_dot_20_bar_sinkbasin"),
        ("receptacleatlocation", "sink_bar__plus_01_dot_20_bar_sinkbasin", "loc_bar_1"),
        # A class that the tables do not have keeps its lower case.
        ("objecttype", "teapot_bar_1", "teapottype"),
    ),
    goal=Goal("pick_clean_then_place_in_recep", "handtoweltype", "toiletpaperhangertype"),
)


def test_problem_declares_and_spells_everything_as_official_files_do() -> None:
    # The goal's line is the business of goal.py.
    lines = format_problem(TINY).splitlines()
    assert [line for line in lines if not line.startswith("(:goal")] == [
        "(define (problem builtin-small_train_000000_pick_clean_then_place_in_recep-HandTowel-ToiletPaperHanger)",
        "(:domain alfred)",
        "(:objects",
        "    agent1 - agent",
        "    loc_bar_0 - location",
        "    loc_bar_1 - location",
        "    HandTowel_bar__plus_01_dot_00 - object",
        "    teapot_bar_1 - object",
        "    ButterKnifeType - otype",
        "    HandTowelType - otype",
        "    KnifeType - otype",
        "    SinkType - otype",
        "    teapottype - otype",
        "    Sink_bar__plus_01_dot_20_bar_SinkBasin - receptacle",
        "    FridgeType - rtype",
        "    MicrowaveType - rtype",
        "    SinkBasinType - rtype",
        "    ToiletPaperHangerType - rtype",
        ")",
        "(:init",
        "    (receptacleType Sink_bar__plus_01_dot_20_bar_SinkBasin SinkBasinType)",
        "    (objectType HandTowel_bar__plus_01_dot_00 HandTowelType)",
        "    (atLocation agent1 loc_bar_0)",
        "    (inReceptacle HandTowel_bar__plus_01_dot_00 Sink_bar__plus_01_dot_20_bar_SinkBasin)",
        "    (receptacleAtLocation Sink_bar__plus_01_dot_20_bar_SinkBasin loc_bar_1)",
        "    (objectType teapot_bar_1 teapottype)",
        ")",
        ")",
    ]


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("split", SPLIT_SIZES)
def test_facts_and_goal_survive_the_problem(split: str, difficulty: str) -> None:
    for index in range(60):
        description = describe(split, index, difficulty)
        facts, goal = parse_problem(format_problem(description))
        assert facts == description.facts
        assert goal == description.goal


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_every_name_in_a_problem_is_declared(difficulty: str) -> None:
    constants = set(re.findall(r"\b\w+Type\b", re.sub(r"\(:predicates.*?\(:functions", "", domain_text(), flags=re.S)))
    constants -= {"objectType", "receptacleType"}
    assert constants == {"KnifeType", "ButterKnifeType", "SinkType", "SinkBasinType", "MicrowaveType", "FridgeType"}
    for index in range(12):
        problem = format_problem(describe("valid_unseen", index, difficulty))
        objects, rest = problem.split("(:init")
        declared = re.findall(r"^    (\S+) - (\w+)$", objects, re.MULTILINE)
        names = {name for name, _ in declared}
        assert len(names) == len(declared)
        assert constants <= names
        init, goal = rest.split("(:goal")
        assert {word for words in re.findall(r"\(\w+ ([^()]+)\)", init) for word in words.split()} <= names
        assert set(re.findall(r"\w+Type(?=\))", goal)) <= names


def test_game_file_is_of_the_current_release() -> None:
    description = replace(describe("train", 0, "small"), walkthrough=("go to shelf 1",))
    content = game_file(description)
    assert list(content) == ["pddl_domain", "grammar", "pddl_problem", "solvable", "walkthrough"]
    task, grammar = split_task(content["grammar"])
    assert task == description.task
    assert recognise(content["pddl_domain"], grammar) == CURRENT
    assert content["solvable"] is True
    assert content["walkthrough"] == ["go to shelf 1"]


def test_games_of_an_older_dialect_are_not_written() -> None:
    with pytest.raises(ValueError, match="only games of the current release"):
        game_file(replace(TINY, dialect=Dialect(put_grammar="put")))


def test_files_lie_where_the_original_looks_for_them(tmp_path: Path) -> None:
    path = write_game(TINY, tmp_path)
    folder = "train/pick_clean_then_place_in_recep-HandTowel-None-ToiletPaperHanger-0/trial_builtin_small_000000"
    assert path == tmp_path / folder / "game.tw-pddl"
    assert json.loads(path.read_text()) == game_file(TINY)
    assert json.loads((path.parent / "traj_data.json").read_text()) == {
        "task_id": "trial_builtin_small_000000",
        "task_type": "pick_clean_then_place_in_recep",
        "pddl_params": {
            "mrecep_target": "",
            "object_sliced": False,
            "object_target": "HandTowel",
            "parent_target": "ToiletPaperHanger",
            "toggle_target": "",
        },
    }
    assert sorted(file.name for file in path.parent.iterdir()) == ["game.tw-pddl", "traj_data.json"]


def test_a_lamp_is_no_receptacle_of_the_goal(tmp_path: Path) -> None:
    look = next(
        game for i in range(6) if (game := describe("train", i, "small")).goal.task_type == "look_at_obj_in_light"
    )
    parameters = json.loads((write_game(look, tmp_path).parent / "traj_data.json").read_text())["pddl_params"]
    assert (parameters["parent_target"], parameters["toggle_target"]) == ("", "DeskLamp")


def test_only_builtin_games_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only builtin games can be written, got task_id 'train/somewhere'"):
        write_game(replace(TINY, task_id="train/somewhere"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_game(TINY, tmp_path)
    before = path.read_bytes()

    def write_half(self: Path, data: str, **options: str) -> int:
        self.write_bytes(data[: len(data) // 2].encode())
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_half)
        with pytest.raises(OSError, match="disk full"):
            write_game(replace(TINY, task="put some clean handtowel in toiletpaperhanger."), tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_exported_games_carry_a_walkthrough_that_wins(difficulty: str, tmp_path: Path) -> None:
    paths = list(export_builtin_games(tmp_path, "valid_seen", difficulty, range(3, 9)))
    assert len({path.parent.parent.name.split("-")[0] for path in paths}) > 1
    for path in paths:
        content = json.loads(path.read_text())
        facts, goal = parse_problem(content["pddl_problem"])
        engine = Engine()
        engine.reset(Game(GameDescription(str(path), "", facts, goal)))
        for command in content["walkthrough"]:
            assert not engine.won
            engine.step(command)
        assert engine.won
