"""Tree search: look some steps ahead on copies of the game, and do what the best plan begins with.

A beam search over states: each plan of the beam is continued with a few commands of a generator on a clone of its
engine, a step scorer judges the commands, and the best plans go on. It sees through a trap that the scorer notices only
when the agent sits in it, which Best-of-N does not. The copies are those of the real game: in an environment with
hidden or random parts, this is looking into the cards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from agentgym_prm.agents.core import Agent
from agentgym_prm.envs.core import CloneableEngine
from agentgym_prm.rewards.core import StepScorer
from agentgym_prm.types import Action, History, InfoKey, Step

PLAN_VALUE: Final = "plan_value"
"""Key of ``Action.scores``: what the best plan is worth."""
PLAN_STEPS: Final = "plan_steps"
EXPANDED: Final = "expanded_states"
SCORED: Final = "scored_actions"


@dataclass(slots=True)
class _Plan:
    """What would be done from a state on, and where that leads."""

    history: History
    engine: CloneableEngine
    first: Action | None = None
    steps: int = 0
    value: float = 0.0

    @property
    def ended(self) -> bool:
        return self.steps > 0 and self.engine.done

    def grown(self, action: Action, score: float) -> "_Plan":
        """One step longer, on a copy of the game."""
        engine = self.engine.clone()
        observation = engine.step(action.command)
        outcome = engine.outcome if engine.done else 0.0
        info = {InfoKey.WON: engine.won, InfoKey.VALID_ACTION: engine.valid}
        before = self.history
        step = Step(before.observation, before.admissible_commands, action, outcome, terminated=engine.done, info=info)
        after = before.after(step, observation, {InfoKey.ADMISSIBLE_COMMANDS: engine.admissible_commands()})
        return _Plan(after, engine, self.first or action, self.steps + 1, outcome if engine.done else score)


@dataclass(slots=True)
class _Search:
    """One root: its beam, and what was proposed there."""

    beam: list[_Plan]
    proposed: list[Action] = field(default_factory=list)
    expanded: int = 0
    scored: int = 0

    @property
    def best(self) -> _Plan:
        return self.beam[0]

    @property
    def live(self) -> list[_Plan]:
        """What to continue; nothing once the best plan is at the game's end."""
        return [] if self.best.ended else [plan for plan in self.beam if not plan.ended]


class TreeSearch(Agent):
    """Searches ``depth`` steps ahead with a beam of plans; one batched generation and one batched scoring a level.

    At first ``beam_width * beam_factor`` commands are drawn, then ``beam_factor`` after each plan. The same command
    after the same plan counts once; commands that are not admissible count only where no other was proposed. A plan is
    worth the score of its last action, or, where that ended the game, the outcome: so scores should be on its scale,
    as values in [0, 1] are. Of plans worth the same the earlier found is kept. With ``beam_width`` and ``beam_factor``
    1 the generator's action is passed on as it is: nothing is scored and no game is copied.

    The action returned keeps its own score in ``scores[scorer.name]`` and the plan's in ``scores["plan_value"]``, the
    other commands proposed with theirs in ``candidates``, and in ``usage`` the steps of the plan, the states that were
    continued and the actions that were scored. All ``n`` samples of a history are the same.

    Args:
        generator: Proposes commands.
        scorer: Judges them.
        engine_at: The game in the state of a history, e.g. ``rewards.oracle.EnvReplay``; it is not changed.
        beam_width: Plans that go on, at least 1.
        beam_factor: Commands after each, at least 1.
        depth: Steps looked ahead, at least 1; 1 is Best-of-N that knows how an action ends.

    Raises:
        ValueError: A number is below 1; when acting: the scorer gave another number of scores, or one that is not
            finite.
    """

    def __init__(
        self,
        generator: Agent,
        scorer: StepScorer,
        engine_at: Callable[[History], CloneableEngine],
        *,
        beam_width: int = 4,
        beam_factor: int = 4,
        depth: int = 3,
    ) -> None:
        for name, number in (("beam_width", beam_width), ("beam_factor", beam_factor), ("depth", depth)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self.name = f"tree_search_{beam_width}x{beam_factor}x{depth}({generator.name}, {scorer.name})"
        self.generator, self.scorer = generator, scorer
        self._engine_at = engine_at
        self._width, self._factor, self._depth = beam_width, beam_factor, depth

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        if self._width == self._factor == 1:
            return self.generator.sample(histories, n)
        searches = [_Search([_Plan(history, self._engine_at(history))]) for history in histories]
        for level in range(self._depth):
            running = [search for search in searches if search.live]
            if not running:
                break
            self._grow(running, self._factor if level else self._width * self._factor)
        return [[self._action(search)] * n for search in searches]

    def _grow(self, searches: Sequence[_Search], n: int) -> None:
        """One level deeper."""
        plans = [(search, plan) for search in searches for plan in search.live]
        drawn = self.generator.sample([plan.history for _, plan in plans], n)
        asked = [
            (search, plan, action)
            for (search, plan), actions in zip(plans, drawn, strict=True)
            for action in _distinct(plan.history, actions)
        ]
        scores_N = np.asarray(
            self.scorer.score([plan.history for _, plan, _ in asked], [action for _, _, action in asked])
        )
        if scores_N.shape != (len(asked),) or not np.isfinite(scores_N).all():
            raise ValueError(
                f"scorer {self.scorer.name!r} must give one finite score for each of {len(asked)} pairs, got "
                f"shape {scores_N.shape}: {scores_N!r:.80}"
            )
        grown: dict[int, list[_Plan]] = {id(search): [p for p in search.beam if p.ended] for search in searches}
        for (search, plan, action), score in zip(asked, scores_N.tolist(), strict=True):
            if plan.first is None:
                action = replace(action, scores={**action.scores, self.scorer.name: score})
                search.proposed.append(action)
            search.scored += 1
            grown[id(search)].append(plan.grown(action, score))
        for search in searches:
            search.expanded += len(search.live)
            # sorted leaves plans of the same worth in their order.
            search.beam = sorted(grown[id(search)], key=lambda plan: -plan.value)[: self._width]

    def _action(self, search: _Search) -> Action:
        plan, first = search.best, search.best.first
        assert first is not None
        usage = {PLAN_STEPS: plan.steps, EXPANDED: search.expanded, SCORED: search.scored}
        return replace(
            first,
            scores={**first.scores, PLAN_VALUE: plan.value},
            usage={**first.usage, **usage},
            candidates=tuple(action for action in search.proposed if action is not first),
        )


def _distinct(history: History, actions: Sequence[Action]) -> list[Action]:
    """The first action of each command; of the admissible ones alone, if there are any."""
    first: dict[str, Action] = {}
    for action in actions:
        first.setdefault(action.command, action)
    admissible = [action for name, action in first.items() if name.strip() in history.admissible_commands]
    return admissible or list(first.values())
