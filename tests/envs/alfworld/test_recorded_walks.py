"""The native engine against transcripts that were recorded from the original (`make record-walks`)."""

import json
import lzma
from collections.abc import Iterator

import pytest

from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.files import GameCollection, describe_record, open_games
from agentgym_prm.envs.alfworld.game import Game
from tests.live.parity import RECORDED, template

MIN_OFFICIAL, MIN_BUILTIN = 24, 12


def recorded(name: str) -> Iterator[dict]:
    with lzma.open(RECORDED[name], "rt", encoding="utf-8") as file:
        next(file)  # provenance
        for line in file:
            yield json.loads(line)


def assert_replays(game: Game, steps: list[dict]) -> None:
    engine = Engine()
    text = engine.reset(game)
    for number, step in enumerate(steps):
        if number:
            text = engine.step(step["command"])
        where = f"{game.task_id}, step {number}: {step['command']!r}"
        assert text == step["text"], where
        assert list(engine.admissible_commands()) == step["admissible"], where
        assert engine.won == step["won"], where


def builtin_game(task_id: str) -> Game:
    difficulty, split = task_id.split("/")[:2]
    games = open_games("builtin", split, difficulty.removeprefix("builtin-"))
    return games.game(games.index(task_id))


def test_walks_through_builtin_games_replay_identically():
    walks = list(recorded("builtin"))
    assert len(walks) >= MIN_BUILTIN
    for walk in walks:
        assert_replays(builtin_game(walk["task_id"]), walk["steps"])


@pytest.fixture(scope="module")
def official_games(data_folder, tmp_path_factory) -> list[GameCollection]:
    import tarfile

    folder = tmp_path_factory.mktemp("official")
    with tarfile.open(data_folder / "alfworld" / "train_sample.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return [
        open_games(str(folder), "train", "full"),
        open_games(str(data_folder / "alfworld"), "valid_seen", "full"),
    ]


def test_walks_through_official_games_replay_identically(official_games):
    walks = list(recorded("official"))
    assert len(walks) >= MIN_OFFICIAL
    for walk in walks:
        games = next(games for games in official_games if walk["task_id"] in games.task_ids)
        assert_replays(games.game(games.index(walk["task_id"])), walk["steps"])


def test_the_recordings_show_every_operation_of_the_engine():
    kinds = {template(step["command"], step["text"]) for walk in recorded("official") for step in walk["steps"]}
    assert len(kinds) == 43  # all that occurred in the 22,306 commands that they were chosen from
    shown = {kind.partition(":")[0] for kind in kinds}
    assert shown >= {
        "", "clean", "close", "cool", "examine", "go", "heat", "help", "inventory", "invalid", "look", "move", "open",
        "slice", "take", "use",
    }  # fmt: skip
    assert "look: You are facing the X, and X. Next to it, you see some." in kinds
    assert "look: You are facing the X, and X. Next to it, you see none." in kinds


def test_a_wrong_engine_would_be_caught():
    """The replay itself can fail: a game whose goal or door is another one does not replay."""
    walk = next(iter(recorded("builtin")))
    broken = json.loads(json.dumps(walk["steps"]))
    broken[-1]["admissible"] = broken[-1]["admissible"][:-1]
    with pytest.raises(AssertionError):
        assert_replays(builtin_game(walk["task_id"]), broken)


def test_all_official_walkthroughs_win_in_their_number_of_steps(data_folder):
    won = 0
    for split in ("train", "valid_seen"):
        games = open_games(str(data_folder / "alfworld"), split, "full")
        for index in range(len(games)):
            description = games.describe(index)
            engine = Engine()
            engine.reset(Game(description))
            for command in description.walkthrough:
                assert not engine.won
                engine.step(command)
                assert engine.valid
            assert engine.won, description.task_id
            won += 1
    assert won == 3_553 + 140


def test_the_training_sample_reads_the_same_from_files_and_from_the_packed_list(official_games, data_folder):
    files, packed = official_games[0], open_games(str(data_folder / "alfworld"), "train", "full")
    for index, task_id in enumerate(files.task_ids):
        one, other = files.describe(index), packed.describe(packed.index(task_id))
        assert one == other
        assert describe_record(packed.record(packed.index(task_id)), task_id, "") == one


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recordings_say_what_they_were_recorded_from(name):
    with lzma.open(RECORDED[name], "rt", encoding="utf-8") as file:
        provenance = json.loads(next(file))
    assert provenance["recorded from"]["alfworld"] == "0.4.2"
    assert provenance["recorded from"]["textworld"] == "1.7.0"
