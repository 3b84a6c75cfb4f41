from dataclasses import dataclass, replace

import numpy as np
import pytest

from agentgym_prm import HandcodedAgent, RandomAgent
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.files import open_games
from agentgym_prm.envs.alfworld.planner import plan
from agentgym_prm.envs.toy import TOY_TASK_IDS, TOY_TASKS, ToyEngine, policy_q, uniform
from agentgym_prm.rewards.branching import Branch, branch_q, branch_targets
from agentgym_prm.rewards.targets import preference_pairs
from agentgym_prm.testing import ScriptedAgent
from agentgym_prm.types import Action, History, Step

CAP = 10


def toy_branch(task: int, *commands: str, tried: tuple[str, ...] = ()) -> Branch:
    engine = ToyEngine()
    history = History(
        TOY_TASKS[task].text, engine.reset(task), engine.admissible_commands(), task_id=TOY_TASK_IDS[task]
    )
    for command in commands:
        step = Step(history.observation, history.admissible_commands, Action(command))
        history = history.after(step, engine.step(command), {"admissible_commands": engine.admissible_commands()})
    return Branch(history, engine, tried or engine.admissible_commands())


def exact(branch: Branch, gamma: float, failure: float = 0.0) -> list[float]:
    table = policy_q(branch.engine.state.task_index, uniform, gamma, CAP, failure_reward=failure)
    left = CAP - len(branch.history.steps)
    return [table.q(branch.engine.state, command, left) for command in branch.commands]


BRANCHES = [
    toy_branch(4),
    toy_branch(4, "take book"),
    toy_branch(4, "take book", "go to garden"),
    toy_branch(4, "take apple", "look", "drop apple"),
    toy_branch(2, "go to garden"),
    toy_branch(2, "go to garden", "take cup", "go to hall"),
]


@pytest.mark.parametrize("signed", [False, True])
def test_estimates_converge_to_the_exact_q_of_the_policy(signed):
    gamma, n = 0.9, 400
    deviates = []
    for branch, estimate in zip(
        BRANCHES, branch_q(BRANCHES, RandomAgent(), n=n, max_episode_steps=CAP, gamma=gamma, signed=signed), strict=True
    ):
        expected = np.array(exact(branch, gamma, -1.0 if signed else 0.0))
        expected = (expected + 1) / 2 if signed else expected
        assert estimate.commands == branch.engine.admissible_commands()
        assert estimate.count == n
        # The floor is for commands after which no continuation, or each, won: their standard error is 0.
        deviates += list((estimate.q_N - expected) / np.maximum(estimate.standard_error_N, 0.05 / n**0.5))
    # About thirty deviates: none beyond 4, and their mean square near 1 says that the standard errors are right.
    assert len(deviates) > 25
    assert np.abs(deviates).max() < 4
    assert 0.3 < np.mean(np.square(deviates)) < 2


def test_estimates_under_another_policy_are_told_apart():
    """The negative control: what the test above accepts is not just anything."""
    estimate = branch_q([toy_branch(4)], ScriptedAgent(lambda history: "look"), n=50, max_episode_steps=CAP)[0]
    assert estimate.q_N.max() == 0
    assert max(exact(toy_branch(4), 0.9)) > 0.05


def test_a_command_that_wins_at_once_is_certain_and_one_that_loses_too():
    (estimate,) = branch_q([BRANCHES[2]], RandomAgent(), n=20, max_episode_steps=CAP, gamma=0.9)
    q = dict(zip(estimate.commands, zip(estimate.q_N, estimate.standard_error_N, strict=True), strict=True))
    assert q["drop book"] == (1.0, 0.0)
    assert q["throw book into the pond"] == (0.0, 0.0)


def test_the_discount_counts_from_the_command_tried():
    def right(history: History) -> str:
        return ["take book", "go to garden", "drop book"][len(history.steps)]

    # Three commands from the start: the reward is two steps away. One command less: one step away.
    for branch, expected in ((toy_branch(4, tried=("take book",)), 0.25), (toy_branch(4, "take book"), 0.5)):
        branch = replace(branch, commands=(right(branch.history),))
        (estimate,) = branch_q([branch], ScriptedAgent(right), n=2, max_episode_steps=CAP, gamma=0.5)
        assert estimate.q_N.tolist() == [expected]
        # On the signed scale: (1 + 0.25) / 2 and (1 + 0.5) / 2.
        (estimate,) = branch_q([branch], ScriptedAgent(right), n=2, max_episode_steps=CAP, gamma=0.5, signed=True)
        assert estimate.q_N.tolist() == [(1 + expected) / 2]


def test_the_cap_counts_the_steps_before_the_branch():
    def right(history: History) -> str:
        return ["look", "take book", "go to garden", "drop book"][len(history.steps)]

    branch = toy_branch(4, "look", tried=("take book",))
    for cap, wins in ((3, 0), (4, 3)):
        (estimate,) = branch_q([branch], ScriptedAgent(right), n=3, max_episode_steps=cap)
        assert estimate.wins_N.tolist() == [wins]


def test_commands_that_the_game_does_not_know_are_tried_like_any_other():
    branch = toy_branch(4, tried=("look", "sing"))
    (estimate,) = branch_q([branch], RandomAgent(), n=2000, max_episode_steps=CAP, gamma=1.0)
    expected = exact(branch, 1.0)
    # Both waste a step, so they are worth the same.
    assert expected[0] == expected[1]
    assert (np.abs(estimate.q_N - expected) < 4 * estimate.standard_error_N).all()


@pytest.mark.parametrize("batch_size", [1, 7, 10_000])
def test_batches_order_and_company_change_nothing(batch_size):
    settings = {"n": 5, "max_episode_steps": CAP, "seed": 3}
    together = branch_q(BRANCHES, RandomAgent(), batch_size=batch_size, **settings)
    turned = branch_q(BRANCHES[::-1], RandomAgent(), **settings)[::-1]
    for branch, one, other in zip(BRANCHES, together, turned, strict=True):
        (alone,) = branch_q([branch], RandomAgent(), **settings)
        few = branch_q([replace(branch, commands=branch.commands[-1:])], RandomAgent(), **settings)[0]
        assert one.q_N.tolist() == other.q_N.tolist() == alone.q_N.tolist()
        assert few.q_N[0] == alone.q_N[-1]


def test_another_seed_draws_other_continuations():
    first, same, other = (
        branch_q(BRANCHES, RandomAgent(), n=30, max_episode_steps=CAP, seed=seed) for seed in (1, 1, 2)
    )
    assert [e.wins_N.tolist() for e in first] == [e.wins_N.tolist() for e in same]
    assert [e.wins_N.tolist() for e in first] != [e.wins_N.tolist() for e in other]


def test_branching_targets_lie_on_the_scale_of_logged_ones_and_make_preferences():
    settings = {"n": 40, "max_episode_steps": CAP, "gamma": 0.9}
    branch = BRANCHES[2]
    targets = branch_targets([branch], RandomAgent(), **settings)
    (estimate,) = branch_q([branch], RandomAgent(), signed=True, **settings)
    assert [(t.action.command, t.value, t.visits) for t in targets] == [
        (command, q, 40) for command, q in zip(estimate.commands, estimate.q_N, strict=True)
    ]
    # The drop wins at once; after the throw the episode fails at the cap, eight steps from here: (1 - 0.9**7) / 2.
    values = {t.action.command: t.value for t in targets}
    assert values["drop book"] == 1
    assert values["throw book into the pond"] == pytest.approx((1 - 0.9**7) / 2)
    pairs = preference_pairs(targets)
    assert {(p.chosen.command) for p in pairs if p.rejected.command == "throw book into the pond"} >= {"drop book"}
    assert all(p.history is branch.history for p in pairs)


@dataclass
class Sale:
    """An engine that ends with any share of the full reward: "sell 0.3" ends it there, anything else waits."""

    price: float | None = None
    valid: bool = True

    @property
    def done(self):
        return self.price is not None

    @property
    def won(self):
        return self.price == 1.0

    @property
    def outcome(self):
        return self.price or 0.0

    def step(self, command):
        if command.startswith("sell"):
            self.price = float(command.split()[1])
        return ""

    def clone(self):
        return replace(self)

    def admissible_commands(self):
        return ("sell 0.3", "sell 1.0", "wait")


def test_an_outcome_between_failure_and_success_counts_as_what_it_is():
    branch = Branch(History("sell", "", task_id="sale"), Sale(), ("sell 0.3", "sell 1.0", "wait"))
    after_waiting = ScriptedAgent(lambda history: "sell 0.6")
    (estimate,) = branch_q([branch], after_waiting, n=2, max_episode_steps=5, gamma=0.5)
    # Sold at once, or one step later: 0.5 * 0.6.
    assert estimate.q_N.tolist() == pytest.approx([0.3, 1.0, 0.3])
    assert estimate.wins_N.tolist() == [0, 2, 0]
    # Outcomes on [-1, 1]: -0.4, 1 and 0.5 * 0.2 = 0.1, mapped back by (1 + x) / 2.
    (estimate,) = branch_q([branch], after_waiting, n=2, max_episode_steps=5, gamma=0.5, signed=True)
    assert estimate.q_N.tolist() == pytest.approx([0.3, 1.0, 0.55])
    # Never sold: as bad as a sale for nothing at the cap, two steps after waiting: (1 - 0.25) / 2.
    waits = ScriptedAgent(lambda history: "wait")
    (estimate,) = branch_q([branch], waits, n=1, max_episode_steps=3, gamma=0.5, signed=True)
    assert estimate.q_N[2] == pytest.approx(0.375)


def test_the_engine_of_the_branch_is_left_as_it_was():
    branch = toy_branch(4)
    before = branch.engine.state
    branch_q([branch], RandomAgent(), n=3, max_episode_steps=CAP)
    assert branch.engine.state == before


def test_one_continuation_has_no_standard_error():
    (estimate,) = branch_q([toy_branch(4)], RandomAgent(), n=1, max_episode_steps=CAP)
    assert np.isnan(estimate.standard_error_N).all()


@pytest.mark.parametrize(
    ("branch", "settings", "message"),
    [
        (toy_branch(4, "take book", "go to garden", "drop book"), {}, "has ended already"),
        (toy_branch(4, "look"), {"max_episode_steps": 1}, "1 steps leave none of max_episode_steps=1"),
        (toy_branch(4), {"n": 0}, "must be at least 1, got 0"),
        (toy_branch(4), {"gamma": 2}, r"gamma must be in \[0, 1\]"),
    ],
)
def test_wrong_arguments_are_named(branch, settings, message):
    with pytest.raises(ValueError, match=message):
        branch_q([branch], RandomAgent(), **{"n": 1, "max_episode_steps": CAP, **settings})


def test_household_games_can_be_branched_and_an_expert_finishes_what_is_begun_well():
    games = open_games("builtin", "train", "small")
    for index in range(6):
        engine = Engine()
        game = games.game(index)
        observation = engine.reset(game)
        history = History(game.task, observation, engine.admissible_commands(), task_id=game.task_id)
        best = plan(engine)
        (estimate,) = branch_q(
            [Branch(history, engine, (best[0], "look"))], HandcodedAgent(), n=2, max_episode_steps=50, gamma=0.95
        )
        assert estimate.wins_N.tolist() == [2, 2]
        # No policy is faster than the shortest plan; and looking around costs a step at least.
        assert estimate.q_N[0] <= 0.95 ** (len(best) - 1) + 1e-12
        assert estimate.q_N[1] <= 0.95 ** len(best) + 1e-12
