import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentgym_prm.cli import _TRAINING, main
from agentgym_prm.search.remote import RemoteSearch
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


def test_an_expert_of_households_is_refused_elsewhere(capsys, tmp_path):
    arguments = ("--agent", "expert", "--env", "agentgym_prm/Toy-v0", "--run-dir", str(tmp_path / "run"))
    assert run("rollout", *arguments) != 0
    assert "does not play agentgym_prm/Toy-v0" in capsys.readouterr().err


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


# --- training commands ---

TINY = ("--tiny.hidden-size", "16", "--tiny.num-heads", "2", "--tiny.num-layers", "1", "--vocabulary-games", "2")
TRAIN = ("train", "--algo", "grpo", "--run-dir", "out", "--model", "m")
"""In a folder with a model called m."""
ONE_EPOCH = ("--sft.epochs", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Demonstrations, a policy, its rollouts, targets and a reward model, each by its own command."""
    runs = tmp_path_factory.mktemp("runs")
    small = ("--difficulty", "small", "--split", "train", "--max-episode-steps", "12")
    for arguments in (
        ("rollout", "--agent", "handcoded", "--noise", "0.2", "--episodes", "12", "--run-dir", f"{runs}/demos", *small),
        ("sft", "--demonstrations", f"{runs}/demos", "--run-dir", f"{runs}/sft", *TINY, *ONE_EPOCH),
        ("rollout", "--agent", f"{runs}/sft", "--episodes", "4", "--run-dir", f"{runs}/rollout", *small),
        ("targets", "--rollouts", f"{runs}/rollout", "--run-dir", f"{runs}/targets", "--states-per-episode", "2"),
        ("train-prm", "--targets", f"{runs}/targets", "--model", f"{runs}/sft/model", "--run-dir", f"{runs}/prm"),
    ):
        assert run(*arguments) == 0, arguments
    return runs


def test_the_training_commands_build_on_each_other(trained):
    assert json.loads((trained / "rollout/config.json").read_text())["settings"]["temperature"] == 1.0
    (action, *_) = [step.action for t in read_trajectories(trained / "rollout/trajectories.jsonl") for step in t.steps]
    assert action.token_ids
    assert (trained / "prm/model/prm.json").is_file()
    injected = [s.action for t in read_trajectories(trained / "demos/trajectories.jsonl") for s in t.steps]
    assert any(action.scores.get("injected") for action in injected)


def test_train_starts_from_a_stages_folder_and_pays_for_what_a_reward_model_says(trained, capsys):
    arguments = (
        "train", "--algo", "gigpo", "--model", f"{trained}/sft", "--run-dir", "out", "--reward", f"prm:{trained}/prm",
        "rubric:repeated_command@-0.1", "--games.max-episode-steps", "6", "--train.updates", "2", "--train.tasks", "2",
        "--train.group-size", "2", "--development.episodes", "2", "--development.judged-turns", "1",
    )  # fmt: skip
    assert run(*arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "gigpo: defaults for a tiny model (16 wide, pretrained ones have at least 256)"
    assert printed[1].startswith("out: ")
    assert printed[2] == "report: out/report.html"
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [0, 1, 2]
    assert {"reward/outcome", "reward/regret_prm", "reward/repeated_command"} <= set(lines[1])
    settings = json.loads(Path("out/config.json").read_text())["settings"]
    assert settings["algorithm"] == "gigpo"
    assert settings["train.optimizer"] == "muon"
    assert settings["policy.prompt"] == "brief"
    page = Path("out/report.html").read_text()
    for title in ("success", "reward of an episode", "divergence", "entropy", "clipped share", "sampler and trainer"):
        assert f"<figcaption>{title}</figcaption>" in page
    assert '<section id="reward">' in page
    assert run(*arguments) == 0
    assert capsys.readouterr().out.splitlines()[1] == "out: complete, skipped"
    assert run(*arguments, "--seed", "1") == 2
    assert "train.seed = 0, not 1" in capsys.readouterr().err
    assert run("eval", "--agent", "out", "--episodes", "1", "--difficulty", "small", "--max-episode-steps", "2") == 0


def test_train_in_another_environment_by_the_short_flag(trained, capsys):
    assert run(
        "train", "--algo", "ppo", "--model", f"{trained}/sft/model", "--run-dir", "out", "--env",
        "agentgym_prm/Toy-v0", "--train.updates", "1", "--train.tasks", "2", "--development.episodes", "0",
    ) == 0  # fmt: skip
    assert json.loads(Path("out/config.json").read_text())["settings"]["games.env"] == "agentgym_prm/Toy-v0"


def test_help_of_train_shows_the_settings_of_the_algorithm(capsys):
    shown = {}
    for name in ("ppo", "online_dpo", "mt_grpo"):
        assert run("train", "--algo", name, "--help") == 0
        shown[name] = capsys.readouterr().out
    for flag, name in (("--train.value-coef", "ppo"), ("--train.beta", "online_dpo"), ("--train.turn-coef", "mt_grpo")):
        assert [each for each, text in shown.items() if flag in text] == [name]
    assert "--env STR, --games.env STR" in shown["ppo"]
    assert "accelerate launch" in shown["ppo"]
    assert run("train", "--algo", "grpo", "--model", "Qwen/Qwen2.5-0.5B-Instruct", "--help") == 0
    paper = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Highest learning rate. (default: 1e-06)" in paper
    assert "Highest learning rate. (default: 0.001)" in " ".join(shown["mt_grpo"].replace("│", " ").split())


def test_eval_plays_best_of_n_with_a_reward_model(trained, capsys):
    code = run(
        "eval", "--agent", f"{trained}/sft", "--best-of", "3", "--scorer", f"{trained}/prm", "--temperature", "1",
        "--episodes", "2", "--difficulty", "small", "--max-episode-steps", "6", "--run-dir", "out",
    )  # fmt: skip
    assert code == 0
    (folder,) = [path for path in Path("out").iterdir() if path.is_dir()]
    assert folder.name == "best_of_3(sft, prm)"
    (episode, *_) = read_trajectories(folder / "trajectories.jsonl")
    assert "prm" in episode.steps[0].action.scores
    assert len(episode.steps[0].action.candidates) == 2
    assert run("report", "out") == 0
    assert Path("out/report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_finished_stage_is_skipped_and_other_settings_are_refused(trained, capsys):
    arguments = ("sft", "--demonstrations", f"{trained}/demos", "--run-dir", f"{trained}/sft", *TINY)
    assert run(*arguments, *ONE_EPOCH) == 0
    assert capsys.readouterr().out == "sft: complete, skipped\n"
    assert run(*arguments, "--sft.epochs", "2") == 2
    assert "sft.epochs = 1, not 2: go back to that, or choose another run directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sft", "--demonstrations", "nowhere", "--run-dir", "out"), "there are no trajectories: no file nowhere"),
        (("sft", "--demonstrations", "x", "--run-dir", "out", "--sft.epochs", "0"), "epochs must be at least 1, got 0"),
        (("targets", "--rollouts", "nowhere", "--run-dir", "out"), "there are no trajectories"),
        (("targets", "--rollouts", "x", "--run-dir", "y", "--kind", "branchin"), "(did you mean 'branching'?)"),
        (("train-prm", "--targets", "x", "--run-dir", "out"), "--model is missing"),
        (("train-prm", "--targets", "x", "--model", "y", "--run-dir", "out"), "x holds no finished targets"),
        (("pipeline", "--run-dir", "out", "--games.env", "agentgym_prm/Toi-v0"), "agentgym_prm/Toy-v0"),
        (("pipeline", "--run-dir", "out", "--policy.mode", "chose"), "(did you mean 'choose'?)"),
        (("pipeline", "--run-dir", "out", "--games.difficulty", "smal"), "(did you mean 'small'?)"),
        (("train", "--algo", "gropo", "--run-dir", "out"), "unknown algorithm 'gropo' (did you mean 'grpo'?)"),
        (("train", "--run-dir", "out", "--model", "x"), "--algo"),
        (("train", "--algo", "grpo", "--run-dir", "out"), "--model is missing"),
        (("train", "--algo", "grpo", "--run-dir", "out", "--model", "./nowhere"), "there is no model folder ./nowhere"),
        (("train", "--algo", "grpo", "--run-dir", "out", "--model", "."), ". holds no model: no config.json"),
        (("train", "--algo", "ppo", "--run-dir", "out", "--model", "m", "--train.lam", "2"), "lam must be in [0, 1]"),
        ((*TRAIN, "--reward", "prm:nowhere"), "prm:nowhere: there is no folder nowhere, no process reward model"),
        ((*TRAIN, "--reward", "rubrik:x"), "unknown kind of reward 'rubrik' (did you mean 'rubric'?)"),
        ((*TRAIN, "--tracker", "tensorbord"), "(did you mean 'tensorboard'?)"),
        ((*TRAIN, "--trajectories", "nowhere"), "there are no trajectories: no file nowhere"),
        ((*TRAIN, "--development.split", "valid_sen"), "(did you mean 'valid_seen'?)"),
        (("pipeline", "--run-dir", "out", "--iterations", "0"), "iterations must be at least 1, got 0"),
        (("eval", "--agent", "random", "--best-of", "4"), "--best-of and --scorer go together"),
        (("eval", "--agent", "random", "--best-of", "4", "--scorer", "rndom"), "(did you mean 'random'?)"),
        (("eval", "--agent", "random", "--best-of", "4", "--scorer", "likelihood"), "needs a model as --agent"),
        (("rollout", "--noise", "2"), "--noise must be in [0, 1], got 2.0"),
        (("report", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_wrong_arguments_of_training_commands_end_with_status_two(arguments, message, capsys):
    Path("m").mkdir()
    Path("m/config.json").write_text('{"hidden_size": 16}')
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    # The argument parser breaks its lines, and draws a box around them.
    error = " ".join((printed.err + printed.out).replace("│", " ").split())
    assert message in error
    assert "Traceback" not in error


def test_a_folder_without_a_model_is_said_to_be_none(capsys):
    Path("empty").mkdir()
    assert run("eval", "--agent", "empty", "--episodes", "1", "--difficulty", "small") == 2
    assert capsys.readouterr().err.startswith("error: cannot play with the model 'empty'")


def test_an_interrupted_pipeline_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("agentgym_prm.training_cli.run_pipeline", interrupt)
    assert run("pipeline", "--run-dir", "out") == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command continues it\n"


def test_the_overview_announces_the_training_commands_as_they_announce_themselves(capsys):
    assert run("--help") == 0
    overview = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in _TRAINING:
        assert run(name, "--help") == 0
        summary = _TRAINING[name].rstrip(".")
        assert summary.partition(":")[0] in " ".join(capsys.readouterr().out.split())
        assert f"• {name}" in overview
        assert summary in overview


def test_best_of_n_of_one_command_is_refused(capsys):
    arguments = ("eval", "--agent", "random", "--best-of", "4", "--scorer", "random", "--temperature", "0")
    assert main(list(arguments)) == 2
    assert "Best-of-N needs a temperature above 0" in capsys.readouterr().err


def test_the_random_agent_chooses_among_searches_that_can_be_given():
    arguments = ("--env", "agentgym_prm/WebShop-v0", "--agent", "random", "--episodes", "40")
    assert run("rollout", *arguments, "--run-dir", "out") == 0
    assert sum(trajectory.outcome > 0 for trajectory in read_trajectories("out/trajectories.jsonl")) > 5
    assert json.loads(Path("out/config.json").read_text())["settings"]["env"]["searches"] == "suggested"


@pytest.mark.parametrize("more", [("--max-episode-steps", "8"), ("--env-args", "max_episode_steps=8")])
def test_the_shopper_of_the_command_line_reckons_with_the_step_cap(more):
    """With the usual 15 commands in mind it buys nothing in some of these games."""
    arguments = ("--env", "agentgym_prm/WebShop-v0", "--agent", "shopper", "--episodes", "20", "--split", "test")
    assert run("rollout", *arguments, *more, "--run-dir", "out") == 0
    assert all(trajectory.steps[-1].terminated for trajectory in read_trajectories("out/trajectories.jsonl"))


def corpus_file(path: Path) -> Path:
    rows = [{"id": name, "title": name.upper(), "text": f"about {name}"} for name in ("ada", "bern", "cat")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_serve_index_serves_a_corpus_until_it_is_interrupted(tmp_path):
    command = [
        sys.executable,
        "-m",
        "agentgym_prm",
        "serve-index",
        str(corpus_file(tmp_path / "c.jsonl")),
        "--port",
        "0",
    ]
    environment = os.environ | {"AGENTGYM_PRM_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        announced = server.stdout.readline()
        url, _, told = announced.partition("  ")
        try:
            found = RemoteSearch(url).search(["bern", "about"], 5)
        finally:
            server.send_signal(signal.SIGINT)
        stdout, stderr = server.communicate(timeout=20)
    assert told == "(3 passages, Ctrl-C stops)\n"
    assert [[each.passage.id for each in some] for some in found] == [["bern"], ["ada", "bern", "cat"]]
    assert (server.returncode, stdout.strip(), stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "'nowhere' is nothing to search in: there is no such file or folder; valid are"),
        (("c.jsonl", "--port", "70000"), "--port must be in [0, 65536), got 70000"),
        (("c.jsonl", "--topk", "0"), "--topk must be in [1, 1000], got 0"),
        (("c.jsonl", "--host", "192.0.2.1"), "192.0.2.1:8000 cannot be used ("),
        (("bad.jsonl",), "bad.jsonl, line 1: there is no 'title'"),
        (("http://x:y",), "a server is given as http://HOST:PORT"),
    ],
)
def test_serve_index_refuses_what_it_cannot_serve(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path / "cache"))
    corpus_file(Path("c.jsonl"))
    Path("bad.jsonl").write_text('{"id": "1"}\n')
    assert run("serve-index", *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_index_is_said_not_to_be_kept(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("agentgym_prm.search.opening.open_search", interrupted)
    assert run("serve-index", "x") == 130
    assert "an index that was not finished is not kept" in capsys.readouterr().err
