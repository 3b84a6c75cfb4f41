import copy
import json
import lzma
import pickle
import shutil
from pathlib import Path

import pytest

from agentgym_prm.envs.alfworld import files
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.export import game_file, write_game
from agentgym_prm.envs.alfworld.files import FileGames, PackedGames, open_games
from agentgym_prm.envs.alfworld.generate import describe
from agentgym_prm.errors import DataNotFoundError, GameFormatError, UnknownNameError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four games in the benchmark's layout: three to train, one unseen."""
    for index in range(3):
        write_game(describe("train", index, "small"), tmp_path / "json_2.1.1")
    write_game(describe("valid_unseen", 0, "small"), tmp_path / "json_2.1.1")
    return tmp_path


def test_the_official_tree_is_found_through_the_variable(tree, monkeypatch):
    monkeypatch.setenv("ALFWORLD_DATA", str(tree))
    games = open_games("official", "train", "full")
    assert len(games) == 3
    assert list(games.task_ids) == sorted(games.task_ids)
    assert games.task_ids[0].startswith("train/")
    assert Engine().reset(games.game(0)).startswith("-= Welcome to TextWorld, ALFRED! =-")
    assert len(open_games("official", "valid_unseen", "full")) == 1


def test_a_folder_a_split_folder_and_a_single_file_all_work(tree):
    assert len(open_games(str(tree), "train", "full")) == 3
    assert len(open_games(str(tree / "json_2.1.1"), "train", "full")) == 3
    folder = tree / "json_2.1.1" / "train"
    assert len(open_games(str(folder), "train", "full")) == 3
    file = next(folder.rglob("game.tw-pddl"))
    assert len(open_games(str(file), "train", "full")) == 1


def test_games_the_original_leaves_out_are_left_out(tree):
    folder = tree / "json_2.1.1" / "train"
    unsolvable, movable, whole = sorted(folder.rglob("game.tw-pddl"))
    record = json.loads(unsolvable.read_text())
    unsolvable.write_text(json.dumps(record | {"solvable": False}))
    renamed = movable.parent.parent.parent / "pick_and_place_with_movable_recep-Pen-Mug-Desk-1" / "trial"
    shutil.move(movable.parent, renamed)
    assert list(open_games(str(folder), "train", "full").task_ids) == [
        f"train/{whole.parent.parent.name}/{whole.parent.name}"
    ]


def test_unsolvable_is_also_seen_in_files_of_another_layout(tree):
    path = next((tree / "json_2.1.1" / "train").rglob("game.tw-pddl"))
    record = json.loads(path.read_text())
    reordered = {"solvable": False, **{k: v for k, v in record.items() if k != "solvable"}}
    path.write_text(json.dumps(reordered, indent=1))
    assert len(open_games(str(tree), "train", "full")) == 2


def test_a_game_is_parsed_once_and_shared(tree):
    games = open_games(str(tree), "train", "full")
    assert open_games(str(tree), "train", "full") is games
    assert games.game(1) is games.game(1)


def test_opening_a_tree_reads_no_game_whole(tree, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a game was parsed")

    monkeypatch.setattr(files, "_load_json", forbidden)
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    assert len(FileGames(sorted(tree.rglob("train/*/*/game.tw-pddl")), tree, "train")) == 3
    assert len(open_games(str(tree), "train", "full")) == 3


def pack(path: Path, count: int = 3) -> Path:
    lines = []
    for index in range(count):
        description = describe("train", index, "small")
        record = game_file(description)
        line = {"gamefile": f"json_2.1.1/train/task-{index}/trial/game.tw-pddl", "task_type": "t"}
        line |= {"task_desc": description.task, "solvable": True, "walkthrough": []}
        lines.append(json.dumps(line | {"pddl_problem": record["pddl_problem"]}) + "\n")
    text = "".join(reversed(lines)).encode()
    path.write_bytes(lzma.compress(text) if path.suffix == ".xz" else text)
    return path


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.xz"])
def test_a_packed_list_gives_the_games_in_the_order_of_their_ids(tmp_path, name):
    pack(tmp_path / name)
    games = open_games(str(tmp_path), "train", "full")
    assert list(games.task_ids) == ["train/task-0/trial", "train/task-1/trial", "train/task-2/trial"]
    for index in range(3):
        expected = describe("train", index, "small")
        assert games.describe(index).task == expected.task
        assert games.describe(index).facts == expected.facts
        assert files.describe_record(games.record(index), "id", "here").goal == expected.goal


def test_a_packed_list_that_is_cut_off_says_so(tmp_path):
    path = pack(tmp_path / "train.jsonl.xz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(GameFormatError, match="damaged or cut off"):
        PackedGames(path, "train")
    plain = pack(tmp_path / "valid_seen.jsonl")
    plain.write_bytes(plain.read_bytes()[:-10])
    with pytest.raises(GameFormatError, match=r"line 3: expected a whole JSON line"):
        PackedGames(plain, "valid_seen")


def test_a_truncated_game_file_names_itself_and_the_remedy(tree):
    path = sorted((tree / "json_2.1.1" / "train").rglob("game.tw-pddl"))[0]
    path.write_text(path.read_text()[:5000])
    games = open_games(str(tree), "train", "full")
    with pytest.raises(GameFormatError, match=r"game\.tw-pddl is damaged or cut off .*: copy it again"):
        games.game(games.task_ids.index(f"train/{path.parent.parent.name}/{path.parent.name}"))


def test_a_file_of_another_kind_says_what_is_missing(tmp_path):
    path = tmp_path / "game.tw-pddl"
    path.write_text('{"hello": 1}')
    with pytest.raises(GameFormatError, match=r"no pddl_domain, grammar, pddl_problem in it"):
        open_games(str(path), "train", "full").game(0)
    path.write_text("[1]")
    with pytest.raises(GameFormatError, match="expected a JSON object, got list"):
        open_games(str(path), "train", "full").game(0)


def test_no_data_says_how_to_get_some(tmp_path, monkeypatch):
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataNotFoundError, match=r"ALFWORLD_DATA is not set.*alfworld-download.*data='builtin'"):
        open_games("official", "train", "full")
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError, match=r"nowhere'?\)"):
        open_games("official", "train", "full")
    with pytest.raises(DataNotFoundError, match="did you mean 'builtin'"):
        open_games("biultin", "train", "full")


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no game\.tw-pddl files in"):
        open_games(str(tmp_path), "train", "full")


def test_a_wrong_split_names_the_nearest_one_that_is_there(tree):
    with pytest.raises(UnknownNameError, match=r"did you mean 'valid_unseen'\?\); valid: train, valid_unseen"):
        open_games(str(tree), "valid_unsen", "full")
    with pytest.raises(UnknownNameError, match="did you mean 'valid_seen'"):
        open_games("builtin", "valid_sen", "full")
    with pytest.raises(UnknownNameError, match=r"unknown difficulty 'fll'.*did you mean 'full'"):
        open_games("builtin", "train", "fll")


def test_a_wrong_type_is_a_type_error():
    with pytest.raises(TypeError, match="split must be a string, got int: 3"):
        open_games("builtin", 3, "full")


def test_a_builtin_game_is_found_by_its_id():
    games = open_games("builtin", "train", "small")
    assert games.index(games.describe(137).task_id) == 137
    with pytest.raises(UnknownNameError, match="look like"):
        games.index("builtin-small/train/000137/pick_nothing")


def test_an_unknown_task_id_of_a_folder_names_the_nearest(tree):
    games = open_games(str(tree), "train", "full")
    wrong = games.task_ids[1][:-1] + "x"
    with pytest.raises(UnknownNameError, match="did you mean"):
        games.index(wrong)


def test_games_of_another_split_are_never_passed_off_as_the_one_asked_for(tree):
    with pytest.raises(UnknownNameError, match="holds games of train, not only of 'valid_unseen'"):
        open_games(str(tree / "json_2.1.1" / "train"), "valid_unseen", "full")
    with pytest.raises(UnknownNameError, match="holds games of train, valid_unseen, not only of 'valid_seen'"):
        open_games(str(tree.parent), "valid_seen", "full")
    with pytest.raises(UnknownNameError, match="did you mean 'valid_unseen'"):
        open_games(str(next(tree.rglob("game.tw-pddl"))), "valid_unsen", "full")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00game", "damaged or cut off"),
        (b'{"pddl_domain": 5, "grammar": "g", "pddl_problem": "p"}', "pddl_domain must be str, got int"),
        (b'{"pddl_domain": "d", "grammar": null, "pddl_problem": "p"}', "grammar must be str, got NoneType"),
        (
            b'{"pddl_domain": "d", "grammar": "g", "pddl_problem": "p", "walkthrough": "go"}',
            "must be a list of commands",
        ),
    ],
)
def test_a_file_with_values_of_the_wrong_kind_says_which(tmp_path, content, message):
    path = tmp_path / "game.tw-pddl"
    path.write_bytes(content)
    with pytest.raises(GameFormatError, match=message):
        open_games(path, "train", "full").game(0)


def test_packed_games_leave_out_what_the_original_leaves_out(tmp_path):
    path = pack(tmp_path / "train.jsonl", count=4)
    lines = path.read_text().splitlines(keepends=True)
    lines[0] = lines[0].replace('"solvable": true', '"solvable": false')
    lines[1] = lines[1].replace("task-2", "pick_and_place_with_movable_recep")
    lines[2] = lines[2].replace("task-1", "pick_and_place_simple-AppleSliced")
    path.write_text("".join(lines))
    assert list(PackedGames(path, "train").task_ids) == ["train/task-0/trial"]
    path.write_text("")
    with pytest.raises(DataNotFoundError, match="no games in"):
        PackedGames(path, "train")
    path.write_text('{"gamefile": "json_2.1.1/train/task/trial/game.tw-pddl", "task_type": "t"}\n')
    with pytest.raises(GameFormatError, match="no task_desc, pddl_problem in it"):
        PackedGames(path, "train").game(0)


def test_a_folder_above_that_is_called_movable_does_not_matter(tmp_path):
    write_game(describe("train", 0, "small"), tmp_path / "removable_disk")
    assert len(open_games(tmp_path / "removable_disk", "train", "full")) == 1


def test_collections_are_shared_by_copies_and_opened_again_by_other_processes(tmp_path):
    for games in (open_games(pack(tmp_path / "train.jsonl"), "train", "full"), open_games("builtin", "train", "small")):
        game = games.game(0)
        assert copy.deepcopy(games) is games
        assert copy.deepcopy(game) is game
        assert pickle.loads(pickle.dumps(games)) is games
