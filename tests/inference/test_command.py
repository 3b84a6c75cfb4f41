"""`agentgym-prm rollout` and `eval` with a model behind an API, which here is the stub."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from agentgym_prm.agents.chat_api import ChatAgent
from agentgym_prm.cli import main
from agentgym_prm.errors import ServiceError
from agentgym_prm.inference import ChatRequest, CompletionCache, RetryPolicy, connect
from agentgym_prm.report import write_report
from agentgym_prm.store import read_trajectories
from tests.inference.conftest import SECRET
from tests.inference.stub import KEY_VARIABLES, MODELS, Fault, Stub

TOY = ("--env", "agentgym_prm/Toy-v0", "--max-episode-steps", "3")


def run(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as exit_:  # the argument parser's own errors
        return int(exit_.code or 0)


def rollout(stub, *more, vendor="openai", episodes=12):
    return (
        "rollout", *TOY, "--agent", f"{vendor}:{MODELS[vendor]}", "--base-url", stub.url(vendor),
        "--episodes", str(episodes), "--num-envs", "4", "--run-dir", "out", *more,
    )  # fmt: skip


def played(folder="out"):
    return sorted(read_trajectories(Path(folder, "trajectories.jsonl")), key=lambda trajectory: trajectory.episode)


def episodes():
    return [trajectory.episode for trajectory in played()]


def actions(folder="out"):
    return [step.action for trajectory in played(folder) for step in trajectory.steps]


def test_rollout_asks_the_model_and_says_what_was_spent(vendor, capsys):
    with Stub() as stub:
        assert run(*rollout(stub, vendor=vendor)) == 0
    printed = capsys.readouterr().out
    assert episodes() == list(range(12))
    assert f"spent: {len(stub.asked)} requests (0 retries)" in printed
    settings = json.loads(Path("out/config.json").read_text())["settings"]
    assert settings["model"] == f"{vendor}:{MODELS[vendor]}"
    assert (settings["prompt"], settings["max_tokens"], settings["temperature"]) == ("reason_action", 4096, 1.0)
    # The same run in another folder plays the same and asks for nothing; with another seed it does not.
    with Stub(port=stub.port) as second:
        again = [argument if argument != "out" else "again" for argument in rollout(second, vendor=vendor)]
        assert run(*again) == 0
        assert second.asked == []
        assert run(*again[:-1], "other", "--seed", "1") == 0
        assert len(second.asked) == len(actions("other"))
    assert [action.reply for action in actions("again")] == [action.reply for action in actions()]


def test_eval_reports_tokens_and_cost_of_an_episode(openai_sdk, capsys):
    with Stub() as stub:
        code = run(
            "eval", *TOY, "--agent", "openai:gpt-4o-mini", "random", "--base-url", stub.url("openai"),
            "--episodes", "6", "--run-dir", "out",
        )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    with Path("out/openai-gpt-4o-mini/summary.csv").open() as file:
        overall = list(csv.DictReader(file))[-1]
    prompt = sum(told.prompt_tokens for told in stub.told) / 6
    completion = sum(told.completion_tokens for told in stub.told) / 6
    assert float(overall["mean_prompt_tokens"]) == pytest.approx(prompt)
    assert float(overall["mean_completion_tokens"]) == pytest.approx(completion)
    assert float(overall["mean_requests"]) == len(stub.asked) / 6
    # 10 of the prompt tokens of each reply are cached.
    cost = (0.15 * prompt - 0.075 * 10 * len(stub.asked) / 6 + 0.6 * completion) / 1e6
    assert float(overall["mean_cost"]) == pytest.approx(cost)
    assert f"openai-gpt-4o-mini: an episode took {prompt:,.0f} + {completion:,.0f} tokens" in printed
    assert f"{cost:.4f} USD" in write_report("out").read_text()
    with Path("out/random/summary.csv").open() as file:
        overall = list(csv.DictReader(file))[-1]
    assert (overall["mean_requests"], overall["mean_cost"]) == ("0.0", "")


def test_a_model_without_a_price_has_an_unknown_cost_in_the_report(openai_sdk, capsys):
    with Stub() as stub:
        code = run(
            "eval", *TOY, "--agent", "openai:somebodys", "--base-url", stub.url("openai"), "--episodes", "2",
            "--run-dir", "out",
        )  # fmt: skip
    assert code == 0
    assert "requests, cost unknown" in capsys.readouterr().out


def test_a_spent_budget_keeps_finished_episodes_and_resume_pays_for_the_others_only(vendor, capsys):
    with Stub() as stub:
        assert run(*rollout(stub, "--budget-requests", "20", vendor=vendor)) == 2
        assert "budget of 20 requests does not allow another request" in capsys.readouterr().err
        assert len(stub.asked) == 20
        kept = episodes()
        assert 0 < len(kept) < 12
        first = Path("out/trajectories.jsonl").read_bytes()
        assert run(*rollout(stub, "--resume", vendor=vendor)) == 0
    assert Path("out/trajectories.jsonl").read_bytes().startswith(first)
    assert episodes() == list(range(12))
    # What was paid for before it stopped is not asked for again.
    assert len(stub.asked) == len(actions())


def test_a_key_that_is_refused_stops_with_a_message_and_the_run_goes_on_with_another(vendor, monkeypatch, capsys):
    monkeypatch.setenv(KEY_VARIABLES[vendor], "good")
    with Stub(key="good") as stub:
        stub.fault = lambda number: Fault("status", 401, message="Key expired") if number >= 15 else None
        assert run(*rollout(stub, vendor=vendor)) == 2
        error = capsys.readouterr().err
        assert "refused a request (status 401): Key expired (is the API key right" in error
        assert KEY_VARIABLES[vendor] in error
        kept = episodes()
        assert 0 < len(kept) < 12
        stub.fault = lambda number: None
        before = len(stub.asked)
        assert run(*rollout(stub, "--resume", vendor=vendor)) == 0
    assert episodes() == list(range(12))
    # All that were answered: 15 before the key was refused, and the others after.
    assert 15 + len(stub.asked) - before == len(actions())


# Of a run that is killed, the four requests that are out are lost; one that is interrupted waits for them.
@pytest.mark.parametrize(("ended_by", "code", "asked_twice"), [(signal.SIGKILL, -9, 4), (signal.SIGINT, 130, 0)])
def test_a_run_that_was_ended_goes_on_where_it_was(ended_by, code, asked_twice, openai_sdk, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    with Stub(delay=0.01) as stub:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentgym_prm", *rollout(stub, episodes=40)],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # Whoever runs the tests may ignore it, which a child would do too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while len(stub.asked) < 50 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(ended_by)
        _, said = process.communicate(timeout=30)
        assert process.returncode == code, said
        ended_at = len(stub.asked)
        stub.delay = 0.0
        assert run(*rollout(stub, "--resume", episodes=40)) == 0
    assert episodes() == list(range(40))
    assert 50 <= ended_at < len(actions())
    assert 0 <= len(stub.asked) - len(actions()) <= asked_twice


def test_the_budget_is_shared_by_the_agents_of_a_command(openai_sdk, capsys):
    with Stub() as stub:
        code = run(
            "eval", *TOY, "--agent", "openai:a", "openai:b", "--base-url", stub.url("openai"), "--episodes", "4",
            "--budget-requests", "15", "--run-dir", "out",
        )  # fmt: skip
    assert code == 2
    assert len(stub.asked) == 15
    assert {asked.body["model"] for asked in stub.asked} == {"a", "b"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--agent", "gpt-4o-mini"), "named openai:gpt-4o-mini"),
        (("--agent", "claude-opus-5"), "named anthropic:claude-opus-5"),
        (("--agent", "opena:gpt-4o"), "valid: openai:MODEL, anthropic:MODEL, gemini:MODEL"),
        (("--agent", "mistral:org/model"), "valid: openai:MODEL"),
        (("--agent", "openai:gpt-4o"), "no API key for openai: set OPENAI_API_KEY"),
        (("--agent", "openai:m", "--base-url", "localhost:8000"), "must start with http"),
        (("--agent", "openai:m", "--base-url", "http://h", "--budget-usd", "1"), "is not known"),
        (("--agent", "openai:m", "--base-url", "http://h", "--budget-tokens", "0"), "must be positive"),
        (("--agent", "openai:m", "--base-url", "http://h", "--concurrency", "0"), "--concurrency must be at least 1"),
        (("--agent", "openai:m", "--base-url", "http://h", "--prices", "none.json"), "none.json"),
    ],
)
@pytest.mark.parametrize("command", ["rollout", "eval"])
def test_wrong_arguments_are_told_before_anything_is_written(command, arguments, message, capsys):
    assert run(command, *TOY, *arguments, "--run-dir", "out") == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_key_is_shown_nowhere(vendor, monkeypatch, capsys, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    # From the file this time.
    Path(".env").write_text(f"{KEY_VARIABLES[vendor]}={SECRET}\n")
    with Stub(key=SECRET) as stub:
        assert run(*rollout(stub, vendor=vendor, episodes=3)) == 0
        assert {SECRET in str(asked.headers) for asked in stub.asked} == {True}
        # The server repeats the key in what it says, as vendors do.
        stub.key = "another"
        assert run(*rollout(stub, "--resume", vendor=vendor, episodes=3)) == 0
        Path("out/trajectories.jsonl").unlink()
        assert run(*rollout(stub, "--resume", "--seed", "0", "--cache", "elsewhere", vendor=vendor, episodes=3)) == 2
        model = connect(f"{vendor}:m", base_url=stub.url(vendor), cache=CompletionCache("cache"))
        with pytest.raises(ServiceError, match=r"Incorrect API key provided: \[key\]") as caught:
            model.complete([ChatRequest((("user", "x"),))])
        stub.fault, stub.key = (lambda number: Fault("status", 500, message=f"boom {SECRET}")), SECRET
        model = connect(f"{vendor}:m", base_url=stub.url(vendor), retry=RetryPolicy(attempts=2, first_delay=0.001))
        with pytest.raises(ServiceError, match=r"boom \[key\]") as gave_up:
            model.complete([ChatRequest((("user", "x"),))])
    run("report", "out")
    printed = capsys.readouterr()
    assert "Incorrect API key provided: [key]" in printed.err
    for error in (caught.value, gave_up.value):
        told = "".join(traceback.format_exception(error))
        assert SECRET not in told
        assert SECRET not in repr(error)
    assert SECRET not in f"{model!r}{model.vendor!r}{vars(model.vendor)!r}{ChatAgent(model)!r}"
    assert SECRET not in printed.out + printed.err
    assert len(caplog.records) > 20
    assert SECRET not in caplog.text
    assert not any(SECRET in str(record.__dict__) for record in caplog.records)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".env"]
    assert {path.suffix for path in files} >= {".json", ".jsonl"}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
