"""WebShop as a Gymnasium environment: shops and goals by name, ``info`` and outcome reward around an engine.

Reward: what the purchase is worth, in [0, 1], on ``click[buy now]``; the episode terminates there. Departures from the
original: the seed picks the goal (there, a draw weighted by how rare a goal's attributes are), price limits follow from
the goal (there, from the process), and ``info`` tells what can be done and what the reward is made of.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from agentgym_prm.envs.core import Outcome, TextEnv, TextVectorEnv
from agentgym_prm.envs.webshop.catalog import Catalogue, open_catalogue
from agentgym_prm.envs.webshop.engine import OBSERVATION_MODES, Engine, Shop
from agentgym_prm.envs.webshop.experts import EXPERTS, Oracle, Shopper
from agentgym_prm.envs.webshop.generate import DIFFICULTIES, BuiltinGoals, builtin_catalogue, builtin_synthetic_goals
from agentgym_prm.envs.webshop.goals import SPLITS, Goal, human_goals, official_split, synthetic_goals
from agentgym_prm.envs.webshop.memory import suggested_searches
from agentgym_prm.envs.webshop.nouns import noun_function
from agentgym_prm.errors import DataNotFoundError, IndexFormatError, UnknownNameError
from agentgym_prm.search import BM25Index, SearchIndex
from agentgym_prm.search.cache import cache_folder
from agentgym_prm.types import InfoKey

DATA_VARIABLE: Final = "WEBSHOP_DATA"
GOAL_KINDS: Final = ("human", "synthetic")
SEARCHES: Final = ("pattern", "suggested")
SEARCH_ENGINES: Final = ("bm25", "pyserini")
CLICKABLES: Final = "clickables"
"""Key of ``info``: what can be named in ``click[…]``, in the page's order, ``tuple[str, ...]``."""
HAS_SEARCH_BAR: Final = "has_search_bar"
"""Key of ``info``: whether the page has a field for keywords, ``bool``."""
REWARD_PARTS: Final = "reward_parts"
"""Key of ``info`` after the purchase: the reward's components (``Reward.parts``), ``dict[str, float]``."""
NOUNS: Final = "nouns"
"""Key of ``info`` after the purchase: the noun function that the reward went by, ``str``."""
_KEEP_INDEX: Final = 20_000
"""From so many products on, a search index is kept on disk; of fewer it is built in a second or two."""
_logger = logging.getLogger(__name__)
READABLE_MODES: Final = ("text_rich", "text")
"""Observation modes that shoppers and prompts can read."""


class WebShopEnv(TextEnv):
    """Shopping: find the product that an instruction describes, choose its options, buy it.

    Commands are ``search[KEYWORDS]`` and ``click[WHAT]``.

    Args:
        data: ``"builtin"`` for a generated shop that needs no download; ``"official"`` for the benchmark's files below
            ``$WEBSHOP_DATA``; or a path to a product file or the folder that holds it.
        split: ``train``, ``valid`` or ``test``.
        difficulty: Of builtin shops: ``"small"`` (titles of three words, for tiny models) or ``"full"``.
        observation_mode: ``"text_rich"``, ``"text"``, ``"html"`` or ``"url"``, as in the original.
        goals: ``"human"`` for instructions in people's words (in builtin shops: generated ones that read like them), or
            ``"synthetic"`` for those made of attributes and options.
        num_products: How many products the shop has; by default all of a file, or ``generate.NUM_PRODUCTS``.
        search_engine: ``"bm25"``, or ``"pyserini"`` for Lucene itself (extra ``[search]``).
        nouns: What finds the nouns of titles, which the reward compares: a name from ``nouns.NOUN_FUNCTIONS``.
        searches: How the admissible commands list searches: as a ``"pattern"``, or a few ``"suggested"`` ones made from
            the instruction's words, for agents that choose among commands. Any search is understood either way. By
            default suggested in small builtin shops, which are for such agents.
        show_attributes: Whether a product's page tells its attributes, a help for debugging.
        expert: ``"oracle"`` or ``"shopper"`` fills ``info["expert_action"]`` at every step.
        expert_steps: How many commands the shopper reckons with. By default ``gym.make_vec`` tells it the step cap;
            ``gym.make``, which does not know of another cap, that of the registered id.
        render_mode: ``"ansi"`` lets ``render`` return the last observation.

    ``info`` also holds ``CLICKABLES``, ``HAS_SEARCH_BAR`` and, after the purchase, ``REWARD_PARTS`` and ``NOUNS``.
    """

    def __init__(
        self,
        *,
        data: str | PathLike[str] = "builtin",
        split: str = "train",
        difficulty: str = "full",
        observation_mode: str = "text_rich",
        goals: str = "human",
        num_products: int | None = None,
        search_engine: str = "bm25",
        nouns: str = "auto",
        searches: str | None = None,
        show_attributes: bool = False,
        expert: str | None = None,
        expert_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        for kind, name, valid in (
            ("split", split, SPLITS),
            ("difficulty", difficulty, DIFFICULTIES),
            ("observation mode", observation_mode, OBSERVATION_MODES),
            ("kind of goals", goals, GOAL_KINDS),
            ("search engine", search_engine, SEARCH_ENGINES),
            ("way to list searches", searches, (None, *SEARCHES)),
            ("expert", expert, (None, *EXPERTS)),
        ):
            if name not in valid:
                raise UnknownNameError.of(kind, name, [each for each in valid if each])
        if expert == "shopper" and observation_mode not in READABLE_MODES:
            raise ValueError(f"expert='shopper' reads observation_mode {READABLE_MODES}, got {observation_mode!r}")
        if expert_steps is not None and expert_steps < 1:
            raise ValueError(f"expert_steps must be at least 1, got {expert_steps}")
        if num_products is not None and (isinstance(num_products, bool) or not isinstance(num_products, int)):
            raise TypeError(f"num_products must be a whole number or None, got {num_products!r}")
        place = _place(data)
        if place is None:
            catalogue = _builtin_catalogue(difficulty, num_products)
            self._tasks = _builtin_tasks(split, difficulty, goals, num_products)
        else:
            catalogue = open_catalogue(place, num_products=num_products)
            self._tasks = _official_tasks(catalogue, split, goals)
        shop = _open_shop(catalogue, search_engine, nouns)
        if searches is None:
            searches = "suggested" if data == "builtin" and difficulty == "small" else "pattern"
        make_engine = Engine if searches == "pattern" else SuggestingEngine
        self._engine = make_engine(shop, observation_mode=observation_mode, show_attributes=show_attributes)
        self._oracle = Oracle(self._engine) if expert == "oracle" else None
        self._reads_along = expert == "shopper"
        self._expert_steps = expert_steps
        self._shopper: Shopper | None = None
        self._info: dict[str, Any] = {}

    @property
    def num_tasks(self) -> int:
        return len(self._tasks.goals)

    @property
    def goals(self) -> Sequence[Goal]:
        """The goals of the split."""
        return self._tasks.goals

    @property
    def engine(self) -> Engine:
        """The running game; it can be cloned to try commands out."""
        return self._engine

    def task_index(self, task_id: str) -> int:
        return self._tasks.index(task_id)

    def _begin(self, task_index: int) -> Outcome:
        goal = self._tasks.goals[task_index]
        observation = self._engine.reset(goal, str(task_index))
        self._info = {
            InfoKey.TASK: goal.instruction,
            InfoKey.TASK_ID: goal.goal_id,
            InfoKey.TASK_TYPE: goal.category,
        }
        info = self._state_info()
        if self._reads_along:
            self._shopper = Shopper.begin(goal.instruction, observation, info[InfoKey.ADMISSIBLE_COMMANDS])
            self._shopper.steps = self._expert_steps or Shopper.steps
        return Outcome(observation, info=self._advised(info))

    def _advance(self, command: str) -> Outcome:
        engine = self._engine
        observation = engine.step(command)
        info = self._state_info()
        if self._shopper is not None:
            self._shopper.observe(command, observation, info[InfoKey.ADMISSIBLE_COMMANDS])
        if engine.done:
            info |= {REWARD_PARTS: dict(engine.reward_parts), NOUNS: engine.shop.nouns.name}
        return Outcome(observation, engine.outcome, engine.done, self._advised(info))

    def _state_info(self) -> dict[str, Any]:
        engine = self._engine
        return {
            **self._info,
            InfoKey.ADMISSIBLE_COMMANDS: engine.admissible_commands(),
            InfoKey.WON: engine.won,
            InfoKey.SCORE: engine.outcome,
            InfoKey.GOAL_CONDITION_SUCCESS_RATE: engine.outcome,
            InfoKey.VALID_ACTION: engine.valid,
            HAS_SEARCH_BAR: engine.has_search_bar,
            CLICKABLES: engine.clickables(),
        }

    def _advised(self, info: dict[str, Any]) -> dict[str, Any]:
        if expert := self._oracle or self._shopper:
            info[InfoKey.EXPERT_ACTION] = expert.choose()
        return info


class SuggestingEngine(Engine):
    """An engine that lists a few searches instead of the pattern that stands for all."""

    __slots__ = ()

    def admissible_commands(self) -> tuple[str, ...]:
        """What would be executed now, sorted, as far as it is listed."""
        if self.has_search_bar:
            return tuple(sorted(f"search[{keywords}]" for keywords in suggested_searches(self.goal.instruction)))
        return super().admissible_commands()


class _Tasks:
    """The goals of a split, and where each of them stands. Read-only: a deep copy is the thing itself."""

    def __init__(self, goals: Sequence[Goal]) -> None:
        self.goals = goals

    def __deepcopy__(self, memo: dict[int, object]) -> "_Tasks":
        return self

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {goal.goal_id: place for place, goal in enumerate(self.goals)}

    def index(self, goal_id: str) -> int:
        if isinstance(self.goals, BuiltinGoals):
            return self.goals.place(goal_id)
        if goal_id not in self._places:
            raise UnknownNameError(f"no task {goal_id!r} among the {len(self.goals)} of this split")
        return self._places[goal_id]


# Opened once for all environments of the process; how many different shops are kept is bounded. What is made of files
# belongs to their catalogue, which ``open_catalogue`` opens anew when they have changed.


_builtin_catalogue = lru_cache(maxsize=8)(builtin_catalogue)


@lru_cache(maxsize=8)
def _open_shop(catalogue: Catalogue, search_engine: str, nouns: str) -> Shop:
    return Shop(catalogue, _open_index(catalogue, search_engine), noun_function(nouns))


def _open_index(catalogue: Catalogue, search_engine: str) -> SearchIndex:
    if search_engine == "pyserini":
        return _open_lucene(catalogue)
    if len(catalogue) < _KEEP_INDEX:
        return _build_index(catalogue)
    folder = _index_folder(catalogue, search_engine)
    try:
        return BM25Index.open(folder)
    except (DataNotFoundError, IndexFormatError):
        # What is damaged, or of another version, would stand in the way of the new one.
        shutil.rmtree(folder, ignore_errors=True)
    index = _build_index(catalogue)
    try:
        index.save(folder)
    except OSError as error:
        _logger.warning("the search index of %s is not kept: %s", catalogue.name, error)
    return index


def _build_index(catalogue: Catalogue) -> BM25Index:
    return BM25Index.build(catalogue.documents(), names=_asins(catalogue))


def _open_lucene(catalogue: Catalogue) -> SearchIndex:
    from agentgym_prm.search.lucene import LuceneIndex

    folder = _index_folder(catalogue, "lucene")
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as place:
            unfinished = Path(place) / "index"
            LuceneIndex.build(catalogue.documents(), unfinished, names=_asins(catalogue))
            # Another process may have been faster; its index is the same.
            with suppress(OSError):
                unfinished.rename(folder)
    return LuceneIndex(folder)


def _index_folder(catalogue: Catalogue, engine: str) -> Path:
    return cache_folder() / "webshop" / f"{engine}-{catalogue.fingerprint[:32]}"


def _asins(catalogue: Catalogue) -> Iterator[str]:
    """Anserini puts documents with equal scores in the order of their ids."""
    return (catalogue.product(index).asin for index in range(len(catalogue)))


@lru_cache(maxsize=16)
def _builtin_tasks(split: str, difficulty: str, kind: str, num_products: int | None) -> _Tasks:
    make_goals = BuiltinGoals if kind == "human" else builtin_synthetic_goals
    return _Tasks(make_goals(split, difficulty, num_products))


@lru_cache(maxsize=16)
def _official_tasks(catalogue: Catalogue, split: str, kind: str) -> _Tasks:
    goals = human_goals(catalogue) if kind == "human" else synthetic_goals(catalogue)
    return _Tasks(official_split(goals, split))


def _place(data: str | PathLike[str]) -> Path | None:
    """Where the files are; ``None`` for the builtin shop."""
    if data == "builtin":
        return None
    if data != "official":
        return Path(data).expanduser()
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise DataNotFoundError(
            f"data='official' looks for WebShop's files in the folder that ${DATA_VARIABLE} names, but it is not set: "
            "it should hold items_shuffle.json, items_ins_v2.json and items_human_ins.json, or the *_1000 ones; "
            "data='builtin' needs no files"
        )
    return Path(folder).expanduser()


def make_vector_env(num_envs: int = 1, max_episode_steps: int | None = None, **kwargs: Any) -> TextVectorEnv:
    """Entry point of ``gym.make_vec``: ``num_envs`` environments stepped together in this process."""
    if max_episode_steps is not None and max_episode_steps > 0:
        kwargs.setdefault("expert_steps", max_episode_steps)
    make_env = partial(WebShopEnv, **kwargs)
    return TextVectorEnv(make_env, num_envs, max_episode_steps=max_episode_steps)
