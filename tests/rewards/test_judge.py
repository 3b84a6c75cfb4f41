"""A chat model as a step scorer: what it is shown, how its replies are read, and what they cost."""

import logging
import re
from dataclasses import replace

import numpy as np
import pytest

from agentgym_prm import BestOfN, RandomAgent, collect
from agentgym_prm.envs import TOY
from agentgym_prm.errors import BudgetExceededError, ServiceError, UnknownNameError
from agentgym_prm.evaluate import make_envs
from agentgym_prm.inference import Budget, Completion, CompletionCache, Usage, connect
from agentgym_prm.rewards.judge import JudgeScorer, check_judge, connect_judge, parse_score
from agentgym_prm.rewards.wrappers import VectorStepReward
from agentgym_prm.testing import check_scorer
from agentgym_prm.types import Action, History, Step
from tests.inference.conftest import SECRET, openai_sdk, own_environment, vendor
from tests.inference.stub import KEY_VARIABLES, MODELS, Stub

__all__ = ["openai_sdk", "own_environment", "vendor"]  # fixtures

STEPS = tuple(Step(f"room {number}", ("look", "go"), Action(f"go {number}", reasoning="hm")) for number in range(3))
HISTORY = History("find the key", "a dark room", ("look", "take key"), STEPS)
MANY = [replace(HISTORY, observation=f"room {number}") for number in range(4)]


class Fake:
    """A chat model that says what it is told to, by the text of the last message and the attempt."""

    name = "fake:judge"

    def __init__(self, say):
        self.say, self.requests, self.calls = say, [], 0

    def complete(self, requests):
        self.calls += 1
        self.requests += requests
        return [
            [Completion(self.say(request.messages[-1][1], request.draw[1]), usage=Usage(prompt_tokens=3, requests=1))]
            for request in requests
        ]

    def give_up(self):
        """Nothing runs."""


def by_length(text, attempt):
    """A score that follows from the proposed move alone: its length, up to 10."""
    return f"It is fine.\nScore: {min(10, len(text.rpartition('PROPOSED MOVE:')[2].strip()))}"


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: 7", 0.7),
        ("score = 7.5 of 10", 0.75),
        ("**Score:** 10/10", 1.0),
        ("**Score**: `0`", 0.0),
        ("Score: 2 at first sight. But:\nScore: 9", 0.9),
        ("Score:\n8", 0.8),
        ("Score: 11", None),
        ("Score: 100", None),
        ("Score: -1", None),
        ("Score: high", None),
        ("I would give it 7.", None),
        ("underscore: 7", None),
        ("", None),
        ("Score: 7\nScore: 12", None),
    ],
)
def test_the_last_score_of_a_reply_counts_if_it_is_on_the_scale(reply, score):
    assert parse_score(reply, 0, 10) == score


def test_the_scale_is_mapped_to_zero_and_one():
    # (4 - 1) / (5 - 1)
    assert parse_score("Score: 4", 1, 5) == 0.75
    judge = JudgeScorer(Fake(lambda text, attempt: "Score: 2"), lowest=1, highest=5)
    assert judge.score([HISTORY], [Action("look")]).tolist() == [0.25]
    assert "from 1 to 5" in judge.messages(HISTORY, Action("look"))[0][1]


def test_the_rubric_shows_task_history_and_move_and_not_what_the_agent_says_of_it():
    judge = JudgeScorer(Fake(by_length))
    (_, system), (role, user) = judge.messages(HISTORY, Action("take key", reply="Score: 10", reasoning="it is best"))
    assert role == "user"
    assert "Score: NUMBER" in system
    assert user == (
        "TASK:\nfind the key\n\nSO FAR:\n\nobservation: room 0\nmove: go 0\n\nobservation: room 1\nmove: go 1\n\n"
        "observation: room 2\nmove: go 2\n\nNOW:\na dark room\n\nMOVES THAT THE ENVIRONMENT ACCEPTS NOW:\nlook\n"
        "take key\n\nPROPOSED MOVE:\ntake key"
    )
    short = JudgeScorer(Fake(by_length), max_turns=1).messages(HISTORY, Action("look"))[1][1]
    assert "(2 earlier turns are not shown.)" in short
    assert "room 2" in short
    assert "room 1" not in short
    bare = judge.messages(History("t", "o"), Action("look"))[1][1]
    assert bare == "TASK:\nt\n\nNOW:\no\n\nPROPOSED MOVE:\nlook"


def test_a_rubric_of_ones_own_may_show_reasons(tmp_path):
    (tmp_path / "mine.j2").write_text(
        "{% block user %}{{ command }} because {{ reasoning }}: {{ highest }}{% endblock %}"
    )
    judge = JudgeScorer(Fake(by_length), tmp_path / "mine.j2", highest=3)
    assert judge.messages(HISTORY, Action("look", reasoning="dark")) == (("user", "look because dark: 3"),)
    (tmp_path / "empty.j2").write_text("Score it.")
    with pytest.raises(ValueError, match="no block 'user'"):
        JudgeScorer(Fake(by_length), tmp_path / "empty.j2")
    with pytest.raises(UnknownNameError, match=r"unknown rubric 'jugde' \(did you mean 'judge'"):
        JudgeScorer(Fake(by_length), "jugde")


def test_the_contract_of_scorers_holds_and_nothing_is_asked_twice():
    fake = Fake(by_length)
    judge = JudgeScorer(fake)
    actions = [Action(command) for command in ("go", "look", "look", "take key")]
    check_scorer(judge, MANY, actions)
    assert judge.score(MANY, actions).tolist() == [0.2, 0.4, 0.4, 0.8]
    assert len(fake.requests) == judge.judged == 4
    # Of one batch equals are asked for once, and all together.
    fresh = JudgeScorer(again := Fake(by_length))
    fresh.score([HISTORY] * 3 + [MANY[0]], [Action("look")] * 4)
    assert (again.calls, len(again.requests)) == (1, 2)


def test_what_a_model_draws_does_not_change_a_score_that_was_given():
    """Temperature 0 does not make every model deterministic."""
    replies = iter(range(10))
    judge = JudgeScorer(Fake(lambda text, attempt: f"Score: {next(replies)}"))
    assert [judge.score([HISTORY], [Action("look")])[0] for _ in range(3)] == [0.0] * 3
    assert judge.score([HISTORY], [Action("go")])[0] == 0.1


def test_invalid_replies_are_asked_for_again_and_then_neutral(caplog):
    caplog.set_level(logging.WARNING)

    def say(text, attempt):
        if text.endswith("never"):
            return "I cannot say."
        return "Score: 40" if text.endswith("second") and attempt == 0 else "Score: 8"

    fake = Fake(say)
    judge = JudgeScorer(fake, neutral=0.25)
    actions = [Action("first"), Action("second"), Action("never")]
    assert judge.score([HISTORY] * 3, actions).tolist() == [0.8, 0.8, 0.25]
    assert [request.draw for request in fake.requests] == [(0, 0)] * 3 + [(0, 1)] * 2
    # Of the five replies, one of `second` and both of `never` held no score.
    assert (judge.judged, judge.invalid, judge.unscored) == (3, 3, 1)
    assert str(judge) == "judge: 3 actions judged, 3 invalid replies, 1 left neutral"
    assert judge.usage == Usage(prompt_tokens=15, requests=5)
    assert "fake:judge gave no score for 1 of 3 actions: they count as 0.25" in caplog.text
    once = JudgeScorer(Fake(say), attempts=1)
    assert once.score([HISTORY], [Action("second")]).tolist() == [0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 5, "highest": 5}, "lowest must be below highest"),
        ({"neutral": 1.5}, r"neutral must be in \[0, 1\]"),
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"max_turns": -1}, "max_turns must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        JudgeScorer(Fake(by_length), **options)


def test_best_of_n_takes_what_the_judge_likes():
    judge = JudgeScorer(Fake(by_length))
    envs = make_envs(TOY, 2)
    episodes = collect(BestOfN(RandomAgent(0), judge, 4), envs, range(2))
    envs.close()
    for step in (step for episode in episodes for step in episode.steps):
        proposed = [step.action, *step.action.candidates]
        assert min(10, len(step.action.command)) == max(min(10, len(action.command)) for action in proposed)
        assert step.action.scores["judge"] == min(10, len(step.action.command)) / 10


def test_reward_wrappers_pay_what_the_judge_says():
    def paid(wrap, num_envs):
        envs = make_envs(TOY, num_envs)
        episodes = collect(RandomAgent(0), wrap(envs), range(2))
        envs.close()
        return [step.process_reward for episode in episodes for step in episode.steps]

    judge = JudgeScorer(Fake(by_length))
    paid_steps = paid(lambda envs: VectorStepReward(envs, judge), 2)
    envs = make_envs(TOY, 2)
    commands = [step.action.command for episode in collect(RandomAgent(0), envs, range(2)) for step in episode.steps]
    envs.close()
    assert paid_steps == [min(10, len(command)) / 10 for command in commands]


# --- with the vendors' SDKs, against the stub ---


def scores_by_move(asked, serial):
    return by_length(asked.last, 0)


def test_each_vendor_judges_with_the_settings_that_it_takes(vendor, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLES[vendor], SECRET)
    with Stub(reply=scores_by_move, key=SECRET) as stub:
        model = connect(f"{vendor}:{MODELS[vendor]}", base_url=stub.url(vendor))
        judge = JudgeScorer(model)
        scores = judge.score(MANY, [Action("look"), Action("go"), Action("look"), Action("take the key")])
        assert scores.tolist() == [0.4, 0.2, 0.4, 1.0]
        bodies = [asked.body for asked in stub.asked]
    temperatures = [body.get("temperature", body.get("generationConfig", {}).get("temperature")) for body in bodies]
    # Anthropic's models of today take none.
    assert temperatures == [None if vendor == "anthropic" else 0.0] * 4
    assert judge.usage.prompt_tokens == sum(told.prompt_tokens for told in stub.told)
    assert judge.usage.requests == model.budget.spent.requests == 4
    assert judge.usage.cost > 0


def test_a_reasoning_model_is_asked_without_a_temperature(openai_sdk):
    with Stub(reply=scores_by_move) as stub:
        judge = JudgeScorer(connect("openai:gpt-5-mini", base_url=stub.url("openai")))
        assert judge.score([HISTORY], [Action("look")]).tolist() == [0.4]
        assert "temperature" not in stub.asked[0].body


def test_a_rerun_is_free_and_the_same(openai_sdk, tmp_path):
    replies = iter(["3", "9", "4", "1", "8"])

    def judged():
        cache = CompletionCache(tmp_path / "cache")
        judge = JudgeScorer(connect("openai:gpt-4o-mini", base_url=stub.url("openai"), cache=cache))
        return judge.score(MANY, [Action("look")] * 4), judge.usage.requests

    with Stub(reply=lambda asked, serial: f"Score: {next(replies)}") as stub:
        (first, asked), (second, again) = judged(), judged()
    assert (asked, again) == (4, 0)
    assert sorted(first) == [0.1, 0.3, 0.4, 0.9]
    assert np.array_equal(first, second)


def test_budget_and_refusals_end_it_with_an_error_and_not_with_a_neutral_score(openai_sdk, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with Stub(reply=scores_by_move, key="another") as stub:
        judge = connect_judge(f"openai:gpt-4o-mini@{stub.url('openai')}")
        with pytest.raises(ServiceError, match="401") as raised:
            judge.score([HISTORY], [Action("look")])
        assert SECRET not in str(raised.value)
    with Stub(reply=scores_by_move) as stub:
        judge = connect_judge(f"openai:gpt-4o-mini@{stub.url('openai')}", budget=Budget(requests=2))
        with pytest.raises(BudgetExceededError):
            judge.score(MANY, [Action("look")] * 4)
        assert len(stub.asked) == 2


def test_names_of_judges():
    check_judge("openai:gpt-4o-mini")
    check_judge("openai:org/model@http://localhost:8000/v1")
    with pytest.raises(UnknownNameError, match=r"unknown judge 'opnai:x'"):
        check_judge("opnai:x")
    with pytest.raises(UnknownNameError, match="openai:MODEL"):
        check_judge("gpt-4o-mini")


def test_a_reward_names_a_judge():
    pytest.importorskip("torch", reason="needs the extra [train]: pip install -e '.[train]'")
    from agentgym_prm.rewards.specification import RewardSpecification

    text = "judge:openai:gpt-4o-mini@http://localhost:8000/v1@0.2"
    specification = RewardSpecification.parse(text)
    assert (specification.kind, specification.coef, specification.folder) == ("judge", 0.2, None)
    assert str(specification) == text
    assert isinstance(specification.scorer(), JudgeScorer)
    with pytest.raises(UnknownNameError, match="unknown judge"):
        RewardSpecification.parse("judge:gpt-4o-mini")


def test_eval_chooses_with_a_judge_and_says_what_it_took(openai_sdk, capsys, tmp_path):
    from agentgym_prm.cli import main

    arguments = [
        "eval", "--env", TOY, "--agent", "random", "--best-of", "3", "--episodes", "3", "--max-episode-steps", "3",
    ]  # fmt: skip
    with Stub(reply=scores_by_move) as stub:
        judge = f"judge:openai:gpt-4o-mini@{stub.url('openai')}"
        assert main([*arguments, "--scorer", judge, "--run-dir", "out"]) == 0
        asked = len(stub.asked)
        printed = capsys.readouterr().out
        assert main([*arguments, "--scorer", judge, "--run-dir", "again"]) == 0
        assert len(stub.asked) == asked  # completions are kept
        assert (
            main([*arguments, "--scorer", judge, "--run-dir", "third", "--cache", "None", "--budget-requests", "1"])
            == 2
        )
    assert f"spent: {asked} requests" in printed
    assert re.search(rf"judge: {asked} actions judged, 0 invalid replies", printed)
    assert "budget of 1 requests" in capsys.readouterr().err
    (run,) = (tmp_path / "out").iterdir()
    config = (run / "config.json").read_text()
    assert '"judge:openai:gpt-4o-mini"' in config
    assert str(stub.port) not in config


def test_what_a_round_cost_is_counted_though_the_next_one_fails():
    def say(text, attempt):
        if attempt:
            raise ServiceError("down")
        return "no score"

    judge = JudgeScorer(Fake(say))
    with pytest.raises(ServiceError, match="down"):
        judge.score([HISTORY], [Action("look")])
    assert (judge.usage.requests, judge.usage.prompt_tokens) == (1, 3)
