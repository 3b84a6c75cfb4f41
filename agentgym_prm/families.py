"""What the commands and stages know of an environment beyond its registration: arguments, splits, who plays it.

An environment that is not listed here works too, with its constructor's arguments given as ``NAME=VALUE`` and without
an agent that reads its texts.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.scripted import HandcodedAgent, HomekeeperAgent, SearcherAgent, ShopperAgent
from agentgym_prm.envs import ALFWORLD, TOY, VIRTUALHOME, WEBSHOP, WIKISEARCH
from agentgym_prm.errors import UsageError


@dataclass(frozen=True, slots=True)
class Splits:
    """Names of the tasks to train on, to choose settings by, and to judge in the end."""

    train: str = "train"
    development: str = "valid"
    test: str = "test"


@dataclass(frozen=True, slots=True)
class Family:
    """One environment.

    Attributes:
        settings: Those settings of the command line that are arguments of its constructor.
        splits: Of its tasks.
        text_expert: Name of the agent that plays it from the texts alone; also an expert of the environment.
        make_text_expert: Makes that agent for episodes of so many commands; ``None`` if there is none.
        privileged: Experts of the environment that know the full state.
        choices: Arguments with which each of its admissible commands can be given as it is listed.
        prompt: What a tiny model is shown.
        chat_prompt: What a pretrained chat model is shown.
        demonstrations: How many games a tiny model imitates to win some, and not most, of those it never saw.
        rollouts: How many it then plays, at most what is left of the training split.
        gamma: Discount per step of a reward model's targets. Episodes of a few steps, most of which an expert can take
            back, need a smaller one, or wasting steps costs less than a reward model's errors.
    """

    settings: tuple[str, ...] = ()
    splits: Splits = Splits()
    text_expert: str = ""
    make_text_expert: Callable[[int], Agent] | None = None
    privileged: tuple[str, ...] = ()
    choices: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = "bare"
    chat_prompt: str = "reason_action"
    demonstrations: int = 100
    rollouts: int = 1500
    gamma: float = 0.95


_FAMILIES: Final = {
    ALFWORLD: Family(
        settings=("data", "split", "difficulty", "engine", "put_grammar"),
        splits=Splits("train", "valid_seen", "valid_unseen"),
        text_expert="handcoded",
        make_text_expert=lambda steps: HandcodedAgent(),
        privileged=("planner", "walkthrough"),
        prompt="brief",
    ),
    VIRTUALHOME: Family(
        settings=("data", "split", "difficulty"),
        splits=Splits("train", "valid_seen", "valid_unseen"),
        text_expert="homekeeper",
        make_text_expert=lambda steps: HomekeeperAgent(),
        privileged=("planner", "program"),
        prompt="home",
        chat_prompt="home_reason_action",
        gamma=0.9,
    ),
    WEBSHOP: Family(
        settings=("data", "split", "difficulty"),
        text_expert="shopper",
        make_text_expert=ShopperAgent,
        privileged=("oracle",),
        choices={"searches": "suggested"},
        prompt="shop",
        chat_prompt="shopping_reason_action",
        demonstrations=200,
        rollouts=800,
        gamma=0.8,
    ),
    WIKISEARCH: Family(
        settings=("data", "split", "difficulty"),
        text_expert="reader",
        make_text_expert=SearcherAgent,
        privileged=("oracle",),
        choices={"suggestions": True},
        prompt="wiki",
        chat_prompt="wiki_xml",
        gamma=0.9,
    ),
    TOY: Family(),
}
TEXT_EXPERTS: Final = tuple(family.text_expert for family in _FAMILIES.values() if family.text_expert)
"""Agents that play from the texts of their environment alone, by name."""
PRIVILEGED: Final = tuple(name for family in _FAMILIES.values() for name in family.privileged)
"""Agents that need the environment's own expert, which knows the full state."""


def family_of(env_id: str) -> Family:
    """What is known of an environment; an empty ``Family`` for one that is not of this package."""
    return _FAMILIES.get(env_id.rpartition(":")[2], Family())


def parse_arguments(arguments: Iterable[str]) -> dict[str, Any]:
    """Arguments of an environment, ``NAME=VALUE`` each; a value that is no JSON is a string.

    Raises:
        UsageError: One has no ``=``, or no name.

    >>> parse_arguments(["goals=human", "num_products=100"])
    {'goals': 'human', 'num_products': 100}
    """
    parsed: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"an argument of the environment must read NAME=VALUE, got {argument!r}")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed
