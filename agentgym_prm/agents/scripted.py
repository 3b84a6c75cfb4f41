"""Agents that need no model: random, replayed, expert, and a person at the keyboard."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from agentgym_prm.agents.core import Agent
from agentgym_prm.draws import mix, uniform
from agentgym_prm.folding import HistoryFold
from agentgym_prm.types import INJECTED, Action, History

if TYPE_CHECKING:
    from agentgym_prm.envs.alfworld.handcoded import HandcodedExpert
    from agentgym_prm.envs.virtualhome.homekeeper import Homekeeper
    from agentgym_prm.envs.webshop.experts import Shopper
    from agentgym_prm.envs.wiki_search.searcher import Searcher


class RandomAgent(Agent):
    """Draws uniformly among the admissible commands.

    The draw depends on ``seed``, the episode and the turn only: batching, slots and resumed runs change nothing.
    """

    def __init__(self, seed: int = 0) -> None:
        self.name = "random"
        self._seed = seed

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[self._draw(history, candidate) for candidate in range(n)] for history in histories]

    def _draw(self, history: History, candidate: int) -> Action:
        commands = history.admissible_commands
        if not commands:
            raise ValueError(f"RandomAgent needs admissible commands; task {history.task_id!r} offers none")
        number = mix(self._seed, history.seed, history.episode, len(history.steps), candidate)
        return Action(commands[number % len(commands)])


class ReplayAgent(Agent):
    """Repeats given commands, by task id: one stored solution a task, from its first turn on.

    Raises ``KeyError`` for a task it has no commands for, and ``IndexError`` past their end.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self.name = "replay"
        self._commands = commands

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._commands[h.task_id][len(h.steps)])] * n for h in histories]


class ExpertAgent(Agent):
    """Does what the environment's expert says; the environment has to be made with ``expert=name``.

    Where the expert has no answer (a walkthrough that the episode has left), it looks around.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._advice(history) or "look")] * n for history in histories]

    def _advice(self, history: History) -> str:
        if history.expert_action is None:
            raise ValueError(
                f"the history holds no expert action: make the environment with expert={self.name!r} to use this agent"
            )
        return history.expert_action


class NoisyAgent(Agent):
    """Another agent, whose command is replaced by a random admissible one at a share of the turns.

    The replaced ones carry ``scores["injected"] = 1.0``: demonstrations of how to recover, in which the slip itself is
    not to be imitated. The draw depends on ``seed``, the episode and the turn only.
    """

    def __init__(self, agent: Agent, share: float = 0.25, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share must be in [0, 1], got {share}")
        self.name = f"{agent.name} with {share:.0%} random commands"
        self._agent, self._share, self._seed = agent, share, seed

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        sampled = self._agent.sample(histories, n)
        return [
            [self._disturb(history, action, candidate) for candidate, action in enumerate(actions)]
            for history, actions in zip(histories, sampled, strict=True)
        ]

    def _disturb(self, history: History, action: Action, candidate: int) -> Action:
        others = [command for command in history.admissible_commands if command != action.command]
        place = (self._seed, history.seed, history.episode, len(history.steps), candidate)
        if not others or uniform(*place, 0) >= self._share:
            return action
        return Action(others[mix(*place, 1) % len(others)], scores={INJECTED: 1.0})


class HandcodedAgent(Agent):
    """Plays ALFWorld from its texts alone: task sentence, observations and admissible commands of the history."""

    def __init__(self) -> None:
        self.name = "handcoded"
        self._experts = HistoryFold(_told)

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._experts.of(history).choose())] * n for history in histories]


def _told(task: str, observation: str, admissible: Sequence[str]) -> "HandcodedExpert":
    # Imported late: importing the package loads no environment.
    from agentgym_prm.envs.alfworld.handcoded import HandcodedExpert

    expert = HandcodedExpert()
    expert.begin(task, observation, admissible)
    return expert


class ShopperAgent(Agent):
    """Plays WebShop from its texts alone: instruction, observations and admissible commands of the history.

    It reads the observation modes ``text_rich`` and ``text``. After the purchase it has no answer: an empty command.

    Args:
        steps: How many commands it thinks an episode has; with fewer it looks at fewer products.
    """

    def __init__(self, steps: int = 15) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.name = "shopper"
        self._shoppers = HistoryFold(partial(_shopping, steps))

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._shoppers.of(history).choose())] * n for history in histories]


def _shopping(steps: int, task: str, observation: str, admissible: Sequence[str]) -> "Shopper":
    from agentgym_prm.envs.webshop.experts import Shopper

    shopper = Shopper.begin(task, observation, admissible)
    shopper.steps = steps
    return shopper


class HomekeeperAgent(Agent):
    """Plays VirtualHome from its texts alone: description, observations and admissible commands of the history.

    It reads ``observation="partial"``. Where nothing is left that it understands it has no answer: an empty command.
    """

    def __init__(self) -> None:
        self.name = "homekeeper"
        self._homekeepers = HistoryFold(_keeping_house)

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._homekeepers.of(history).choose())] * n for history in histories]


def _keeping_house(task: str, observation: str, admissible: Sequence[str]) -> "Homekeeper":
    from agentgym_prm.envs.virtualhome.homekeeper import Homekeeper

    return Homekeeper.begin(task, observation, admissible)


class SearcherAgent(Agent):
    """Plays WikiSearch from its texts alone: questions and results of the history, in whichever protocol they are.

    After the answer it has none to give: an empty command.

    Args:
        steps: How many commands it thinks an episode has; with few it answers after fewer searches.
    """

    def __init__(self, steps: int = 10) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.name = "reader"
        self._searchers = HistoryFold(partial(_searching, steps))

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._searchers.of(history).choose())] * n for history in histories]


def _searching(steps: int, task: str, observation: str, admissible: Sequence[str]) -> "Searcher":
    from agentgym_prm.envs.wiki_search.searcher import Searcher

    return Searcher.begin(task, observation, admissible, max_searches=steps - 1)


class HumanAgent(Agent):
    """Asks a person. ``ask`` shows the history and returns what was typed: the caller owns the terminal."""

    def __init__(self, ask: Callable[[History], str]) -> None:
        self.name = "human"
        self._ask = ask

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._ask(history)) for _ in range(n)] for history in histories]
