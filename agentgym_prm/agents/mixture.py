"""Several agents as one: candidates from all of them, one drawn each turn, or another one at a single turn.

Source: arXiv:2502.10325, section 3 (mixtures of generators) and its released code (the switch agent).
"""

from collections.abc import Sequence
from typing import Final

from agentgym_prm.agents.core import Agent
from agentgym_prm.draws import mix
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.types import Action, History

_HOW: Final = ("split", "draw")


class Mixture(Agent):
    """Candidates from several agents.

    Args:
        agents: At least one.
        how: ``"split"`` divides the candidates of a turn evenly among the agents, in their order, the first ones giving
            one more where it does not come out even (so ``act``, which asks for one, asks the first agent);
            ``"draw"`` lets one agent, drawn anew each turn, give all of them.
        seed: Another one draws otherwise; each draw depends on the seed, the episode and the turn only.
    """

    def __init__(self, agents: Sequence[Agent], how: str = "split", *, seed: int = 0) -> None:
        if not agents:
            raise ValueError("a mixture needs at least one agent")
        if how not in _HOW:
            raise UnknownNameError.of("how", how, _HOW)
        self.name = f"mixture({', '.join(agent.name for agent in agents)})"
        self.agents = tuple(agents)
        self._how, self._seed = how, seed

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        if self._how == "draw":
            return _sample_by_turns(self.agents, [self._drawn(history) for history in histories], histories, n)
        each, more = divmod(n, len(self.agents))
        shares = [each + (number < more) for number in range(len(self.agents))]
        parts = [a.sample(histories, share) for a, share in zip(self.agents, shares, strict=True) if share]
        return [[action for part in parts for action in part[number]] for number in range(len(histories))]

    def _drawn(self, history: History) -> int:
        return mix(self._seed, history.seed, history.episode, len(history.steps)) % len(self.agents)


class Switch(Agent):
    """Acts as ``first`` does, except at one turn of each episode, where ``other`` acts.

    Args:
        first: Acts at all turns but one.
        other: Acts at that turn.
        at: The turn, from 0; or a range, from which it is drawn for each episode.
        seed: Another one draws otherwise; each draw depends on the seed and the episode only.
    """

    def __init__(self, first: Agent, other: Agent, at: int | range, *, seed: int = 0) -> None:
        turns = range(at, at + 1) if isinstance(at, int) else at
        if not turns or min(turns) < 0:
            raise ValueError(f"at must be a turn from 0 on, or a range of such turns that is not empty, got {at!r}")
        self.name = f"switch({first.name}, {other.name})"
        self.agents = (first, other)
        self._turns, self._seed = turns, seed

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        who = [int(len(history.steps) == self.turn(history)) for history in histories]
        return _sample_by_turns(self.agents, who, histories, n)

    def turn(self, history: History) -> int:
        """The turn at which ``other`` acts in the history's episode."""
        return self._turns[mix(self._seed, history.seed, history.episode) % len(self._turns)]


def _sample_by_turns(
    agents: Sequence[Agent], who: Sequence[int], histories: Sequence[History], n: int
) -> list[list[Action]]:
    """Let ``agents[who[i]]`` answer ``histories[i]``; each agent is asked once, for all of its histories."""
    answers: list[list[Action]] = [[] for _ in histories]
    for number, agent in enumerate(agents):
        places = [place for place, chosen in enumerate(who) if chosen == number]
        if places:
            sampled = agent.sample([histories[place] for place in places], n)
            for place, candidates in zip(places, sampled, strict=True):
                answers[place] = candidates
    return answers
