import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agentgym_prm import RandomAgent, collect
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.algos.online_dpo import OnlineDPOConfig
from agentgym_prm.algos.prm import PRMConfig
from agentgym_prm.algos.sft import SFTConfig
from agentgym_prm.envs import ALFWORLD, TOY
from agentgym_prm.errors import StoreError, UsageError
from agentgym_prm.evaluate import make_envs
from agentgym_prm.models import ModelConfig, TinyConfig
from agentgym_prm.pipeline import PipelineConfig, _iterations, iteration_folder, run_pipeline
from agentgym_prm.report import STAGES
from agentgym_prm.rewards.prm import ProcessRewardModel
from agentgym_prm.stages.config import (
    DemonstrationsConfig,
    DevelopmentConfig,
    GamesConfig,
    PolicyConfig,
    RolloutConfig,
    TargetsConfig,
)
from agentgym_prm.stages.evaluation import EvalConfig
from agentgym_prm.stages.policy import read_episodes
from agentgym_prm.stages.targets import make_targets, read_targets
from tests.chat_models import save_small_chat_model

TOY_RUN = PipelineConfig(
    model=ModelConfig(model="tiny", device="cpu"),
    vocabulary_games=6,
    games=GamesConfig(env=TOY, num_envs=8),
    policy=PolicyConfig(prompt="bare"),
    tiny=TinyConfig(hidden_size=32, num_heads=2, intermediate_size=64),
    demonstrations=DemonstrationsConfig(games=48),
    sft=SFTConfig(learning_rate=1e-2, optimizer="muon", epochs=4, batch_size=4, log_every=2),
    rollout=RolloutConfig(games=12),
    targets=TargetsConfig(states_per_episode=3, completer="random", n=4, chunk=7, expert_share=0.25, workers=1),
    head="scalar",
    prm=PRMConfig(learning_rate=1e-2, batch_size=8, log_every=1),
    dpo=OnlineDPOConfig(learning_rate=3e-3, optimizer="muon", updates=4, tasks=6, samples=4, beta=0.1, eval_every=2),
    development=DevelopmentConfig(episodes=6, judged_turns=2),
    eval=EvalConfig(episodes=6, best_of=(2, 4), control_n=4),
)


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("toy") / "run"
    lines = []
    run_pipeline(run, TOY_RUN, say=lines.append)
    return run, lines


# --- killed runs ---


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.killed_pipeline", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert result.returncode == 0, result.stderr
    return folder


def without_rounding(trajectory):
    """A trajectory without the numbers that depend, in their last digits, on what else was in the batch."""
    text = json.dumps(trajectory.to_json())
    names = r"logprobs|choice_logprob|prm|likelihood_sft"
    return re.sub(rf'"({names})": (\[[^]]*\]|[-0-9.e]+)', r'"\1"', text)


def test_every_stage_was_killed_several_times(killed):
    kills = json.loads((killed / "kills.json").read_text())
    assert len(kills) == 14
    assert {stage for stage, _, _ in kills} == set(STAGES)


def test_killed_and_continued_runs_play_the_same_episodes(killed):
    files = sorted(path.relative_to(killed / "whole") for path in (killed / "whole").rglob("trajectories.jsonl"))
    assert len(files) == 2 + 10  # demonstrations, rollouts, and the agents of the evaluation
    for file in files:
        whole, again = (read_episodes(killed / run / file) for run in ("whole", "killed"))
        assert list(map(without_rounding, again)) == list(map(without_rounding, whole)), file
        for one, other in zip(whole, again, strict=True):
            for step, same in zip(one.steps, other.steps, strict=True):
                assert same.action.logprobs == pytest.approx(step.action.logprobs, abs=1e-5)  # float32


def test_killed_and_continued_runs_learn_the_same_weights_bit_by_bit(killed):
    for file in (
        "sft/model/model.safetensors",
        "prm/model/model.safetensors",
        "sft/base/model.safetensors",
        "policy/model/model.safetensors",
    ):
        assert (killed / "killed" / file).read_bytes() == (killed / "whole" / file).read_bytes(), file
    names = ("sft/base", "sft/model", "policy/model")
    weights = {(killed / "whole" / name / "model.safetensors").read_bytes() for name in names}
    assert len(weights) == 3


def test_killed_and_continued_runs_come_to_the_same_results(killed):
    for file in ("targets/branches.jsonl", "prm/quality.json", "prm/model/README.md", "summary.csv"):
        assert (killed / "killed" / file).read_text() == (killed / "whole" / file).read_text(), file
    for stage in STAGES:
        whole, again = (json.loads((killed / run / stage / "done.json").read_text()) for run in ("whole", "killed"))
        assert again["fingerprint"] == whole["fingerprint"]
        for name, value in whole["results"].items():
            assert again["results"][name] == (pytest.approx(value, abs=1e-5) if "gap" in name else value), name


# --- a run in the toy environment ---


def test_each_stage_leaves_its_files(toy_run):
    run, lines = toy_run
    for path in (
        "config.json", "demonstrations/trajectories.jsonl", "sft/base/config.json", "sft/checkpoint.pt",
        "sft/metrics.jsonl", "sft/model/config.json", "rollout/trajectories.jsonl", "targets/branches.jsonl",
        "prm/metrics.jsonl", "prm/model/prm.json", "prm/model/README.md", "prm/quality.json",
        "policy/metrics.jsonl", "policy/checkpoint.pt", "policy/model/config.json", "eval/policy/summary.csv",
        "eval/policy_best_of_4_prm/summary.csv", "eval/best_of_4_oracle/summary.csv", "eval/best_of_4_prm/summary.csv",
        "summary.csv", "report.html",
    ):  # fmt: skip
        assert (run / path).is_file(), path
    for stage in STAGES:
        done = json.loads((run / stage / "done.json").read_text())
        assert done["stage"] == stage
        assert done["seconds"] > 0
        assert any(re.match(rf"{stage}: \d+\.\d s", line) for line in lines)


def test_the_stages_play_different_games_and_the_policy_is_consistent(toy_run):
    run, _ = toy_run
    assert len(read_episodes(run / "demonstrations/trajectories.jsonl")) == 48
    rollout = json.loads((run / "rollout/done.json").read_text())["results"]
    assert rollout["episodes"] == rollout["compared"] == 12
    assert rollout["identical_ids"] is True
    assert rollout["max_logprob_gap"] < 1e-4


def test_the_oracle_chooses_better_than_the_policy(toy_run):
    run, _ = toy_run
    results = json.loads((run / "eval/done.json").read_text())["results"]
    assert results["success_best_of_4_oracle"] > results["success_sft"]


def test_the_summary_has_a_row_for_each_agent_and_each_gate(toy_run):
    run, _ = toy_run
    with (run / "summary.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    agents = [name for name in rows if rows[name]["episodes"]]
    assert agents == [
        "sft", "sft_greedy", "policy", "policy_best_of_4_prm", "best_of_2_prm", "best_of_4_prm", "best_of_4_random",
        "best_of_4_likelihood", "best_of_4_oracle", "random",
    ]  # fmt: skip
    assert all(rows[name]["episodes"] == "6" for name in agents)
    gates = [row for row in rows.values() if row["verdict"]]
    assert [row["verdict"].partition(":")[0] in ("PASS", "FAIL") for row in gates] == [True] * 5
    oracle = rows["best_of_4_oracle"]
    gain = float(oracle["success"]) - float(rows["sft"]["success"])
    assert float(oracle["minus_sft"]) == pytest.approx(gain)
    assert (gates[0]["verdict"].startswith("PASS")) == (gain >= 0.2)


def test_a_finished_run_is_skipped_stage_by_stage(toy_run):
    run, _ = toy_run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.parent != run and path.is_file()}
    lines = []
    run_pipeline(run, TOY_RUN, say=lines.append)
    assert lines[0].startswith("note: 66 training games are asked for and there are 6")
    assert lines[1 : len(STAGES) + 1] == [f"{stage}: complete, skipped" for stage in STAGES]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_settings_are_refused_by_name(toy_run):
    run, _ = toy_run
    with pytest.raises(StoreError, match=r"sft\.epochs = 4, not 2.*another run directory"):
        run_pipeline(run, replace(TOY_RUN, sft=replace(TOY_RUN.sft, epochs=2)))
    with pytest.raises(StoreError, match=r"seed = 0, not 1"):
        run_pipeline(run, replace(TOY_RUN, seed=1))


def test_a_stage_of_its_own_is_refused_on_other_inputs(toy_run, tmp_path):
    run, _ = toy_run
    rollouts = tmp_path / "trajectories.jsonl"
    lines = (run / "rollout/trajectories.jsonl").read_text().splitlines(keepends=True)
    rollouts.write_text("".join(lines[:4]))
    make_targets(tmp_path / "targets", rollouts, TOY_RUN.targets, TOY_RUN.games)
    rollouts.write_text("".join(lines[:5]))
    with pytest.raises(StoreError, match="builds on rollouts"):
        make_targets(tmp_path / "targets", rollouts, TOY_RUN.targets, TOY_RUN.games)


# --- iterations ---


@pytest.fixture(scope="module")
def two_iterations(toy_run, tmp_path_factory):
    """The toy run gone on with for another iteration: of its stages only the evaluation is done anew."""
    run = tmp_path_factory.mktemp("two") / "run"
    shutil.copytree(toy_run[0], run, ignore=shutil.ignore_patterns("eval", "report.html", "summary.csv"))
    (run / "config.json").unlink()
    lines = []
    run_pipeline(run, replace(TOY_RUN, iterations=2), say=lines.append)
    return run, lines


def done(folder):
    return json.loads((folder / "done.json").read_text())["results"]


def test_an_iteration_builds_on_the_policy_of_the_one_before(two_iterations):
    run, lines = two_iterations
    assert lines[1:7] == [f"{stage}: complete, skipped" for stage in STAGES if stage != "eval"]
    again = [line.partition(":")[0] for line in lines if line.startswith("iteration 2, ")]
    assert again == [f"iteration 2, {stage}" for stage in ("rollout", "targets", "prm", "policy")]
    # What the second iteration starts with is what the first one ended with, on the same development games.
    first, second = done(run / "policy"), done(run / "iteration_2/policy")
    for figure in ("success_rate", "mean_steps"):
        assert second[f"{figure}_before"] == first[f"{figure}_after"]
    names = ("policy/model", "iteration_2/policy/model", "sft/model")
    assert len({(run / name / "model.safetensors").read_bytes() for name in names}) == 3
    inputs = json.loads((run / "iteration_2/rollout/config.json").read_text())["settings"]
    assert inputs["builds on policy"] == json.loads((run / "policy/done.json").read_text())["fingerprint"]
    assert inputs["first_game"] == TOY_RUN.demonstrations.games + TOY_RUN.vocabulary_games + TOY_RUN.rollout.games
    judged = json.loads((run / "eval/config.json").read_text())["settings"]
    assert (
        judged["builds on trained policy"]
        == json.loads((run / "iteration_2/policy/done.json").read_text())["fingerprint"]
    )


def test_the_report_shows_success_and_reward_of_all_iterations(two_iterations):
    run, _ = two_iterations
    page = (run / "report.html").read_text()
    section = page[page.index('<section id="reward">') : page.index('<section id="learning">')]
    logs = [(run / name / "metrics.jsonl").read_text().splitlines() for name in ("policy", "iteration_2/policy")]
    lines = [(number, json.loads(line)) for number, log in enumerate(logs) for line in log]
    judged = [(number, line) for number, line in lines if "eval/success_rate" in line]
    assert [(number, line["update"]) for number, line in judged] == [(n, u) for n in (0, 1) for u in (0, 2, 4)]
    titles = re.findall(r"<title>(.*?)</title>", section)
    # Four updates in the first iteration, so the second starts at 4.
    for name, key in (("won", "eval/success_rate"), ("prm", "eval/prm"), ("advantage_prm", "eval/advantage_prm")):
        expected = [f"{name} {line[key]:.4g} at {4 * number + line['update']}" for number, line in judged]
        assert [title for title in titles if title.startswith(f"{name} ")] == expected
    samples = [f"samples {v['reward/prm_mean']:.4g} at {4 * n + v['update']}" for n, v in lines if v["update"]]
    assert [title for title in titles if title.startswith("samples")] == samples
    assert section.count('class="diagonal"') == 3  # where the second iteration begins, in each panel
    assert section.count("<tr><td>2</td>") == 3
    stages = re.findall(r'<th scope="row">([a-z_0-9/]+)</th><td>[^<]+ s</td>', page[page.index('id="stages"') :])
    second = [f"iteration_2/{stage}" for stage in ("rollout", "targets", "prm", "policy")]
    assert stages == [*STAGES[:-1], *second, "eval", "together"]


def test_iterations_stop_when_success_did_not_rise_and_end_with_the_best_policy(toy_run, tmp_path, monkeypatch):
    after = iter((0.5, 0.7, 0.7, 0.9))

    def iterate(folder, before, *arguments):
        started.append(before)
        return {"success_rate_before": 0.4, "success_rate_after": next(after)}

    for wanted, config in ((2, replace(TOY_RUN, iterations=9, stop_by_success=True)), (4, None)):
        started, lines, after = [], [], iter((0.5, 0.7, 0.7, 0.9))
        monkeypatch.setattr("agentgym_prm.pipeline._iterate", iterate)
        config = config or replace(TOY_RUN, iterations=4)
        trained = _iterations(tmp_path, config, tmp_path / "demonstrations", 0, lines.append)
        assert Path(trained.model.model) == iteration_folder(tmp_path, wanted) / "policy" / "model"
        assert trained.prm == iteration_folder(tmp_path, wanted) / "prm" / "model"
    assert [path.parent.parent.name for path in started[1:]] == [tmp_path.name, "iteration_2", "iteration_3"]
    after = iter((0.4,))
    stopped = replace(TOY_RUN, iterations=2, stop_by_success=True)
    trained = _iterations(tmp_path, stopped, tmp_path / "demonstrations", 0, lines.append)
    assert Path(trained.model.model) == tmp_path / "sft" / "model"
    assert lines == ["stopped after iteration 1: 40.0% of the development games won, 40.0% by the best policy before"]


def test_iterations_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        replace(TOY_RUN, iterations=0)
    with pytest.raises(ValueError, match=r"development\.episodes is 0"):
        replace(TOY_RUN, stop_by_success=True, development=DevelopmentConfig(episodes=0))


def test_a_policy_is_not_selected_by_the_games_of_the_evaluation():
    seen = replace(TOY_RUN.games, eval_split="valid_seen")
    with pytest.raises(ValueError, match=r"development\.split and games\.eval_split are both 'valid_seen'"):
        replace(TOY_RUN, games=seen)
    replace(TOY_RUN, games=seen, development=DevelopmentConfig(episodes=0))


# --- targets ---


def test_several_processes_estimate_the_same(toy_run, tmp_path):
    run, _ = toy_run
    two = replace(TOY_RUN.targets, workers=2)
    demonstrations = run / "demonstrations/trajectories.jsonl"
    folder = tmp_path / "run" / "targets"
    rollouts = run / "rollout/trajectories.jsonl"
    make_targets(folder, rollouts, two, TOY_RUN.games, demonstrations=demonstrations)
    alone, together = (list(read_targets(each)) for each in (run / "targets", folder))
    assert together == alone


def test_a_share_of_the_states_comes_from_the_expert(toy_run):
    run, _ = toy_run
    records = [json.loads(line) for line in (run / "targets/branches.jsonl").read_text().splitlines()]
    expert = sum("demonstrations" in record["source"] for record in records)
    assert expert == round(len(records) * 0.25)
    assert max(sum(r["source"] == s["source"] and r["episode"] == s["episode"] for s in records) for r in records) == 3


def test_limited_commands_hold_the_one_taken(toy_run, tmp_path):
    run, _ = toy_run
    config = replace(TOY_RUN.targets, max_commands=2, expert_share=0.0)
    make_targets(tmp_path / "targets", run / "rollout/trajectories.jsonl", config, TOY_RUN.games)
    episodes = {each.episode: each for each in read_episodes(run / "rollout/trajectories.jsonl")}
    records = [json.loads(line) for line in (tmp_path / "targets/branches.jsonl").read_text().splitlines()]
    assert {len(record["commands"]) for record in records} == {2}
    for record in records:
        assert episodes[record["episode"]].steps[record["turn"]].action.command in record["commands"]


def test_monte_carlo_targets_are_the_mean_returns_of_the_rollouts(toy_run, tmp_path):
    pytest.importorskip("polars")
    run, _ = toy_run
    config = TargetsConfig(kind="monte_carlo", gamma=1.0)
    make_targets(tmp_path / "targets", run / "rollout/trajectories.jsonl", config, TOY_RUN.games)
    groups = read_targets(tmp_path / "targets")
    episodes = read_episodes(run / "rollout/trajectories.jsonl")
    starts = {}
    for episode in episodes:
        starts.setdefault((episode.task, episode.steps[0].action.command), []).append(episode.outcome)
    found = {
        (group.history.task, action.command): value
        for group in groups
        if not group.history.steps
        for action, value in zip(group.actions, group.values, strict=True)
    }
    assert found == pytest.approx({key: sum(values) / len(values) for key, values in starts.items()})


def test_branching_without_a_native_engine_names_the_other_kind(tmp_path):
    games = GamesConfig(env="module:Env-v0", max_episode_steps=5)
    with pytest.raises(UsageError, match="monte_carlo"):
        make_targets(tmp_path / "targets", tmp_path / "trajectories.jsonl", TargetsConfig(), games)
    with pytest.raises(UsageError, match="needs the policy's model"):
        make_targets(tmp_path / "t", tmp_path / "trajectories.jsonl", TargetsConfig(completer="policy"), GamesConfig())


# --- a chat model ---


def test_a_chat_model_runs_through_all_stages_by_free_generation(tmp_path):
    envs = make_envs(ALFWORLD, 4, split="train", difficulty="small", max_episode_steps=6)
    prompt = Prompt.load("reason_action")
    seen = collect(RandomAgent(), envs, range(4))
    envs.close()
    texts = [message.content for episode in seen for message in prompt.messages(episode.history(5))]
    model = save_small_chat_model(tmp_path / "chat", texts)
    config = PipelineConfig(
        model=ModelConfig(model=str(model), device="cpu"),
        games=GamesConfig(max_episode_steps=4, num_envs=4),
        policy=PolicyConfig(prompt="reason_action", mode="generate", max_new_tokens=8, max_prompt_tokens=2000),
        demonstrations=DemonstrationsConfig(games=6),
        sft=SFTConfig(learning_rate=1e-3, batch_size=2),
        rollout=RolloutConfig(games=3),
        targets=TargetsConfig(states_per_episode=2, completer="policy", max_commands=2, expert_share=0.5),
        head="scalar",
        prm=PRMConfig(batch_size=2, log_every=1),
        dpo=OnlineDPOConfig(updates=1, tasks=2, histories=4, learning_rate=1e-4),
        development=DevelopmentConfig(episodes=2, judged_turns=1),
        eval=EvalConfig(episodes=2, best_of=(2,), control_n=2, baselines=False),
    )
    run_pipeline(tmp_path / "run", config)
    rollout = json.loads((tmp_path / "run/rollout/done.json").read_text())["results"]
    assert rollout["identical_ids"] is True
    assert 0 < rollout["max_logprob_gap"] < 1e-4
    assert not (tmp_path / "run/sft/base").exists()
    (episode, *_) = read_episodes(tmp_path / "run/eval/best_of_2_prm/trajectories.jsonl")
    assert len(episode.steps[0].action.candidates) == 1
    judge = ProcessRewardModel.load(tmp_path / "run/prm/model", device="cpu")
    assert judge.prompt.name == "reason_action"
    groups = read_targets(tmp_path / "run/targets")
    sources = [
        json.loads(line)["source"] for line in (tmp_path / "run/targets/branches.jsonl").read_text().splitlines()
    ]
    assert len(groups) == len(sources)
    assert {source.split("/")[1] for source in sources} == {"rollout", "demonstrations"}
