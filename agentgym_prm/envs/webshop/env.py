"""WebShop as a Gymnasium environment: shops and goals by name, ``info`` and outcome reward around an engine.

Reward: what the purchase is worth, in [0, 1], on ``click[buy now]``; the episode terminates there. Departures from the
original: the seed picks the goal (there, a draw weighted by how rare a goal's attributes are), price limits follow from
the goal (there, from the process), and ``info`` tells what can be done and what the reward is made of.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self

from agentgym_prm.envs.core import Outcome, TextEnv, TextVectorEnv
from agentgym_prm.envs.webshop.catalog import Catalogue, open_catalogue
from agentgym_prm.envs.webshop.engine import OBSERVATION_MODES, Engine, Shop
from agentgym_prm.envs.webshop.experts import EXPERTS, Oracle, Shopper
from agentgym_prm.envs.webshop.generate import DIFFICULTIES, BuiltinGoals, builtin_catalogue
from agentgym_prm.envs.webshop.goals import SPLITS, Goal, human_goals, official_split, synthetic_goals
from agentgym_prm.envs.webshop.memory import suggested_searches
from agentgym_prm.envs.webshop.nouns import noun_function
from agentgym_prm.errors import DataNotFoundError, UnknownNameError
from agentgym_prm.search import BM25Index
from agentgym_prm.types import InfoKey

DATA_VARIABLE: Final = "WEBSHOP_DATA"
GOAL_KINDS: Final = ("human", "synthetic")
SEARCHES: Final = ("pattern", "suggested")
SEARCH_ENGINES: Final = ("bm25", "pyserini")
REWARD_PARTS: Final = "reward_parts"
"""Key of ``info``: after a purchase, the components of its reward."""
