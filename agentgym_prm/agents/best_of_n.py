"""Best-of-N: draw N candidates, execute the one that a scorer likes best.

Source: arXiv:2502.10325, section 3 (inference). Commands outside the history's admissible ones are not scored while
there are others; the paper scores every candidate (``admissible_only=False``).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from agentgym_prm.agents.core import Agent
from agentgym_prm.rewards.core import StepScorer
from agentgym_prm.types import Action, History

CANDIDATES: Final = "candidates"
DISTINCT: Final = "distinct_candidates"
ADMISSIBLE: Final = "admissible_candidates"


class BestOfN(Agent):
    """Executes the best of ``n`` candidates; one batched generation and one batched scoring a turn.

    Candidates with the same command for the same history are scored once. Of equal scores the earliest candidate wins.
    With ``n = 1`` the generator's action is passed on as it is and the scorer is never called.

    The action returned keeps its score in ``scores[scorer.name]``, the others with theirs in ``candidates``, and in
    ``usage`` how many candidates there were, how many different ones, and how many admissible: 0 says that the turn had
    none, and then the best of all is executed, whatever comes of it. A candidate that was not scored has no score.

    Args:
        generator: Draws the candidates.
        scorer: Judges them.
        n: Candidates a turn, at least 1.
        admissible_only: Score only admissible candidates, as long as there are any. A history without a list of
            admissible commands admits all.

    Raises:
        ValueError: ``n`` is below 1; when acting: the scorer gave another number of scores, or one that is not finite.
    """

    def __init__(self, generator: Agent, scorer: StepScorer, n: int, *, admissible_only: bool = True) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        self.name = f"best_of_{n}({generator.name}, {scorer.name})"
        self.generator, self.scorer, self.n = generator, scorer, n
        self._admissible_only = admissible_only

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        if self.n == 1:
            return self.generator.sample(histories, n)
        groups = [
            (history, candidates[start : start + self.n])
            for history, candidates in zip(histories, self.generator.sample(histories, n * self.n), strict=True)
            for start in range(0, n * self.n, self.n)
        ]
        chosen = self._choose(groups)
        return [chosen[start : start + n] for start in range(0, len(chosen), n)]

    def _choose(self, groups: Sequence[tuple[History, list[Action]]]) -> list[Action]:
        asked: dict[tuple[int, str], tuple[History, Action]] = {}
        contenders: list[list[int]] = []
        admissible_counts: list[int] = []
        for history, candidates in groups:
            admissible = [number for number, action in enumerate(candidates) if _is_admissible(history, action)]
            restricted = self._admissible_only and bool(admissible)
            contenders.append(admissible if restricted else list(range(len(candidates))))
            admissible_counts.append(len(admissible))
            for number in contenders[-1]:
                # Groups of one history share the object, so its id tells histories apart within the call.
                asked.setdefault((id(history), candidates[number].command), (history, candidates[number]))
        if not asked:
            return []
        scores_N = self.scorer.score(
            [history for history, _ in asked.values()], [action for _, action in asked.values()]
        )
        if np.shape(scores_N) != (len(asked),) or not np.isfinite(scores_N).all():
            raise ValueError(
                f"scorer {self.scorer.name!r} must give one finite score for each of {len(asked)} pairs, got "
                f"shape {np.shape(scores_N)}: {scores_N!r:.80}"
            )
        scores = dict(zip(asked, scores_N.tolist(), strict=True))
        return [
            self._best(history, candidates, numbers, scores, admissible_count)
            for (history, candidates), numbers, admissible_count in zip(
                groups, contenders, admissible_counts, strict=True
            )
        ]

    def _best(
        self,
        history: History,
        candidates: list[Action],
        contenders: Sequence[int],
        scores: dict[tuple[int, str], float],
        admissible_count: int,
    ) -> Action:
        scored = list(candidates)
        for number in contenders:
            action = candidates[number]
            score = scores[id(history), action.command]
            scored[number] = replace(action, scores={**action.scores, self.scorer.name: score})
        # max returns the first of equals.
        best = max(contenders, key=lambda number: scores[id(history), candidates[number].command])
        counts = {
            CANDIDATES: len(candidates),
            DISTINCT: len({action.command for action in candidates}),
            ADMISSIBLE: admissible_count,
        }
        rejected = tuple(action for number, action in enumerate(scored) if number != best)
        return replace(scored[best], usage={**scored[best].usage, **counts}, candidates=rejected)


def _is_admissible(history: History, action: Action) -> bool:
    return not history.admissible_commands or action.command.strip() in history.admissible_commands
