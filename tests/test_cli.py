import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentgym_prm.cli import main
from agentgym_prm.store import read_trajectories


def run(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as exit_:  # the argument parser's own errors
        return int(exit_.code or 0)


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_eval_of_several_agents_prints_a_comparison_and_writes_their_files(capsys):
    code = run("eval", "--agent", "planner", "random", "--episodes", "12", "--difficulty", "small", "--run-dir", "out")
    printed = capsys.readouterr().out
    assert code == 0
    header, *rows = printed.splitlines()
    assert header.split()[-2:] == ["planner", "random"]
    assert [row.split()[0] for row in rows[:7]][-1] == "all"
    assert "100.0% [75.8%, 100.0%]" in rows[6]  # Wilson's interval for 12 of 12
    for agent in ("planner", "random"):
        assert sorted(path.name for path in Path("out", agent).iterdir()) == [
            "config.json",
            "summary.csv",
            "trajectories.jsonl",
        ]


def test_eval_refuses_an_existing_run_and_continues_it_with_resume(capsys):
    arguments = ("eval", "--agent", "planner", "--episodes", "3", "--difficulty", "small", "--run-dir", "out")
    assert run(*arguments) == 0
    assert run(*arguments) == 2
    assert "resume it" in capsys.readouterr().err
    assert run(*arguments, "--resume") == 0


def test_rollout_writes_each_game_as_often_as_asked(capsys):
    assert run("rollout", "--episodes", "3", "--repeats", "2", "--difficulty", "small", "--run-dir", "out") == 0
    assert "6 new episodes, 300 steps, 0 won" in capsys.readouterr().out
    assert [t.seed for t in sorted(read_trajectories("out/trajectories.jsonl"), key=lambda t: t.episode)] == [
        0, 0, 1, 1, 2, 2,
    ]  # fmt: skip
    assert json.loads(Path("out/config.json").read_text())["settings"]["agent"] == "random"


def test_play_watches_an_expert_to_the_end(capsys):
    assert run("play", "--agent", "expert", "--difficulty", "small", "--task", "1") == 0
    printed = capsys.readouterr().out
    assert "-= Welcome to TextWorld, ALFRED! =-" in printed
    assert "\n> go to " in printed
    assert printed.rstrip().splitlines()[-1].startswith("won in ")


def test_a_person_plays_asks_for_commands_and_stops():
    result = subprocess.run(
        [sys.executable, "-m", "agentgym_prm", "play", "--difficulty", "small"],
        input="?\ngo to moon 1\n\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "inventory\nlook" in result.stdout
    assert "Nothing happens." in result.stdout
    assert result.stdout.endswith("stopped\n")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "--agent", "plannr"), "unknown agent 'plannr' (did you mean 'planner'?)"),
        (("play", "--agent", "humn"), "unknown agent 'humn' (did you mean 'human'?)"),
        (("eval", "--split", "valid_unsen"), "unknown split 'valid_unsen' (did you mean 'valid_unseen'?)"),
        (("eval", "--difficulty", "smal"), "unknown difficulty 'smal' (did you mean 'small'?)"),
        (("eval", "--env", "agentgym_prm/AlfWorld-v0"), "(did you mean 'agentgym_prm/ALFWorld-v0'?)"),
        (("eval", "--data", "nowhere"), "no file or folder"),
        (("eval", "--engine", "nativ"), "(did you mean 'native'?)"),
        (("eval", "--episodes", "0"), "--episodes must be at least 1, got 0"),
        (("rollout", "--num-envs", "-1"), "--num-envs must be at least 1, got -1"),
        (("eval", "--resume"), "--resume needs --run-dir"),
        (("eval", "--first-seed", "-3"), "--first-seed must be at least 0, got -3"),
        (("eval", "--max-episode-steps", "0"), "--max-episode-steps must be at least 1, got 0"),
        (("eval", "--env", "no_such_module:X-v0"), "no_such_module"),
        (("play", "--task", "999999"), "--task must be in [0, 1000), got 999999"),
        (("play", "--delay", "-1"), "--delay must be at least 0 seconds"),
        (("export-games", "out", "--first", "9990", "--games", "20"), "go past its end"),
    ],
)
def test_wrong_arguments_end_with_status_two_and_the_nearest_name(arguments, message, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_a_misspelt_flag_proposes_the_right_one(capsys):
    assert run("eval", "--episods", "3") == 2
    assert "--episodes" in capsys.readouterr().err


def test_help_shows_defaults_and_units(capsys):
    assert run("rollout", "--help") == 0
    printed = capsys.readouterr().out
    assert "default: 100" in printed
    assert "in commands" in printed


def test_exported_games_can_be_played_from_their_folder(capsys):
    assert run("export-games", "out", "--games", "3", "--split", "train", "--difficulty", "small") == 0
    assert len(list(Path("out").rglob("game.tw-pddl"))) == 3
    code = run("eval", "--agent", "walkthrough", "--data", "out", "--split", "train", "--run-dir", "runs/x")
    assert code == 0
    assert "100.0%" in capsys.readouterr().out


def test_a_wrong_argument_leaves_no_run_directory_behind():
    assert run("eval", "--split", "nowhere") == 2
    assert run("rollout", "--difficulty", "huge") == 2
    assert not Path("runs").exists()


def test_an_agent_named_twice_is_evaluated_once(capsys):
    assert run("eval", "--agent", "expert", "handcoded", "--episodes", "2", "--difficulty", "small") == 0
    assert capsys.readouterr().out.startswith("task type")  # one agent: its own table, no comparison


def test_every_agents_environment_is_tried_before_anything_is_written(capsys, monkeypatch):
    def refuse(name, engine, walkthrough):
        raise ValueError(f"no {name} here")

    monkeypatch.setattr("agentgym_prm.envs.alfworld.env.make_expert", refuse)
    assert run("eval", "--agent", "random", "planner", "--episodes", "2", "--difficulty", "small") == 2
    assert capsys.readouterr().err == "error: no planner here\n"
    assert not Path("runs").exists()
