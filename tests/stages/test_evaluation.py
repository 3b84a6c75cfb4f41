import pytest

from agentgym_prm import BestOfN, RandomAgent
from agentgym_prm.envs import VIRTUALHOME, WEBSHOP
from agentgym_prm.evaluate import EpisodeResult, EvalReport, evaluate
from agentgym_prm.stages.config import GamesConfig
from agentgym_prm.stages.evaluation import EvalConfig, gates, oracle


def report(name, wins, episodes=20):
    results = (EpisodeResult("heat", seed < wins, 5, 0.0, 1.0, 0.0, seed) for seed in range(episodes))
    return EvalReport(name, tuple(results))


def verdicts(sft, prm, ceiling, accuracy=0.8):
    reports = {"sft": report("sft", sft), "best_of_8_prm": report("prm", prm)}
    if ceiling is not None:
        reports["best_of_8_oracle"] = report("oracle", ceiling)
    return [gate.passed for gate in gates(reports, 8, accuracy)]


def test_gates_hold_from_their_bounds_on():
    # Of 20 episodes: the oracle gains 4 = 20 points, the reward model 3 = 15 points and three quarters of that.
    assert verdicts(10, 13, 14) == [True, True, True, True]
    assert verdicts(10, 13, 13) == [False, True, True, True]
    assert verdicts(10, 12, 14) == [True, True, False, True]
    assert verdicts(4, 8, 13) == [True, True, True, False]
    assert verdicts(10, 13, 14, accuracy=0.749) == [True, False, True, True]


def test_a_gate_that_nothing_was_measured_for_fails():
    assert verdicts(10, 13, 14, accuracy=None) == [True, False, True, True]


def test_without_an_oracle_only_the_other_gates_are_judged():
    assert verdicts(10, 13, None) == [True, True]


def test_a_gate_tells_its_figures_and_the_paired_interval():
    reports = {name: report(name, wins) for name, wins in (("sft", 10), ("best_of_8_prm", 15))}
    _, gain = gates(reports, 8, 0.8)
    # Difference 0.25; half width 1.96 * sqrt((0.25 - 0.0625) / 20) = 0.18977.
    assert str(gain) == "PASS: +25.0 [+6.0, +44.0] points"


def test_the_gate_of_the_trained_policy_is_judged_if_there_is_one():
    # Of 20 episodes 4 more than 10: 20 points.
    for wins, passed in ((14, True), (13, False)):
        names = {"sft": 10, "best_of_8_prm": 15, "policy": wins}
        *_, gate = gates({name: report(name, each) for name, each in names.items()}, 8, 0.8)
        assert gate.claim == "trained policy gains at least 20 points over sft"
        assert gate.passed is passed


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="control_n >= 2"):
        EvalConfig(control_n=1)


@pytest.mark.parametrize("env_id", [VIRTUALHOME, WEBSHOP])
def test_the_oracle_lifts_an_agent_that_draws_at_random(env_id):
    games = GamesConfig.of(env_id)
    kwargs = games.kwargs(games.eval_split)
    chosen = evaluate(BestOfN(RandomAgent(), oracle(games), 8), env_id, range(8), **kwargs)
    assert chosen.overall.mean_score >= evaluate(RandomAgent(), env_id, range(8), **kwargs).overall.mean_score + 0.4
