"""Questions over an encyclopedia as a Gymnasium environment: search with tools, then answer.

Reward: what the answer is worth, by exact match or F1, on the step that gives it; the episode terminates there. The cap
of the registered id, 10, is the source system's default of tool calls (its ``max_steps``, the last of which it does not
answer); its question-answering experiments allow one search, ``max_searches=1``. Departures from it: malformed messages
count as steps (there, only tokens limit them); results are cut to 2,000 characters, about Search-R1's 500 tokens; the
seed picks the question. What commands and observations look like is told in ``protocols.py``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import Any, Final, Protocol
from zlib import crc32

from agentgym_prm.envs.core import Outcome, TextEnv, TextVectorEnv
from agentgym_prm.envs.wiki_search.engine import Engine, Tokenizer
from agentgym_prm.envs.wiki_search.moves import Answer, Search
from agentgym_prm.envs.wiki_search.protocols import make_protocol
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.envs.wiki_search.tools import wiki_search_over
from agentgym_prm.errors import DataFormatError, DataNotFoundError, UnknownNameError
from agentgym_prm.search.core import PassageSearch
from agentgym_prm.types import InfoKey

SPLITS: Final = ("train", "valid", "test")
DIFFICULTIES: Final = ("small", "full")
EXPERTS: Final = ("oracle", "reader")
SEARCHES: Final = "searches"
"""Key of ``info``: calls of tools since ``reset``, ``int``."""
FOUND_IDS: Final = "found_ids"
"""Key of ``info``: ids of the passages that the last command brought, ``tuple[str, ...]``."""
FOUND_TITLES: Final = "found_titles"
"""Key of ``info``: their titles, ``tuple[str, ...]``."""
_SPLIT_WORDS: Final = {"train": ("train",), "valid": ("valid", "validation", "val", "dev"), "test": ("test",)}
"""Words in the names of question files."""
_WORDS: Final = re.compile("[a-z]+")
Data = str | PathLike[str] | Sequence[Question]


class WikiSearchEnv(TextEnv):
    """Question answering by search: look passages up, read them, answer.

    Args:
        data: ``"builtin"`` for a generated encyclopedia with questions that needs no download; a path to a question
            file (``question_files.py``) or to a folder with one for each split; or the questions themselves.
        split: ``train``, ``valid`` or ``test``. One question file is divided by ids, 8:1:1; ``all`` takes it whole.
        difficulty: Of builtin questions: ``"small"`` (for tiny models) or ``"full"``.
        index: What is searched: anything with a ``search`` method (``PassageSearch``), or what ``open_search`` opens: a
            corpus, the folder of an index, the address of a server, ``lucene:NAME``. By default the builtin
            encyclopedia or, of a question file that has them, the paragraphs that come with its questions.
        protocol: ``"xml"``, ``"react"`` or ``"search_r1"`` (``protocols.py``). By default ``xml``, in small builtin
            questions ``react``, which takes the fewest tokens.
        k: Passages a search brings; 3 in Search-R1's experiments.
        max_searches: Calls of tools that are answered; the next one ends the episode. By default no limit but the cap.
        max_result_length: Longest text that a tool brings; ``None`` for no limit.
        length_unit: Of that: ``"characters"`` or ``"tokens"``.
        tokenizer: Where the tokens of a text begin and end (``engine.Tokenizer``); by default words and single other
            marks count.
        tools: Functions that can be called beside ``wiki_search``, or in its place; only by the protocol ``xml``.
        suggestions: Whether the admissible commands list searches and answers, for agents that choose: names, years and
            numbers and some nouns of the texts seen so far. Otherwise none are listed. By default in small builtin
            questions.
        reward: ``"exact_match"`` or ``"f1"``.
        metric: Whose normalisation decides: ``"triviaqa"``, ``"squad"`` or ``"hotpotqa"`` (``answers.py``).
        expert: ``"oracle"`` or ``"reader"`` fills ``info["expert_action"]`` at every step.
        render_mode: ``"ansi"`` lets ``render`` return the last observation.

    ``info`` also holds ``error``, ``answers``, ``answer``, ``search_result``, ``malformed_calls``, ``SEARCHES``,
    ``FOUND_IDS`` and ``FOUND_TITLES``. ``won`` goes by exact match, whatever the reward.
    """

    def __init__(
        self,
        *,
        data: Data = "builtin",
        split: str = "train",
        difficulty: str = "full",
        index: str | PathLike[str] | PassageSearch | None = None,
        protocol: str | None = None,
        k: int = 1,
        max_searches: int | None = None,
        max_result_length: int | None = 2000,
        length_unit: str = "characters",
        tokenizer: Tokenizer | None = None,
        tools: Sequence[Callable[..., Any]] = (),
        suggestions: bool | None = None,
        reward: str = "exact_match",
        metric: str = "triviaqa",
        expert: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        if difficulty not in DIFFICULTIES:
            raise UnknownNameError.of("difficulty", difficulty, DIFFICULTIES)
        if expert not in (None, *EXPERTS):
            raise UnknownNameError.of("expert", expert, EXPERTS)
        self._tasks = _open_tasks(data, split, difficulty)
        small = data == "builtin" and difficulty == "small"
        self._engine = Engine(
            _open_index(index, data, split, difficulty),
            make_protocol(protocol or ("react" if small else "xml"), tuple(tools)),
            k=k,
            max_searches=max_searches,
            max_result_length=max_result_length,
            length_unit=length_unit,
            tokenizer=tokenizer,
            reward=reward,
            metric=metric,
            suggestions=small if suggestions is None else suggestions,
        )
        self._further_tools = tuple(tools)
        self._expert_name = expert
        self._expert: _Expert | None = None
        self._info: dict[str, Any] = {}

    @property
    def num_tasks(self) -> int:
        return len(self._tasks.questions)

    @property
    def questions(self) -> Sequence[Question]:
        """The questions of the split."""
        return self._tasks.questions

    @property
    def engine(self) -> Engine:
        """The running episode; it can be cloned to try commands out."""
        return self._engine

    @property
    def tools(self) -> tuple[Callable[..., Any], ...]:
        """What can be called, as Python functions; ``tools.describe`` tells a model of them."""
        search = wiki_search_over(self._engine.index, self._engine.k)
        named = {function.__name__: function for function in (search, *self._further_tools)}
        return tuple(named.values())

    def task_index(self, task_id: str) -> int:
        return self._tasks.index(task_id)

    def _begin(self, task_index: int) -> Outcome:
        question = self._tasks.questions[task_index]
        observation = self._engine.reset(question)
        self._info = {
            InfoKey.TASK: question.text,
            InfoKey.TASK_ID: question.id,
            InfoKey.TASK_TYPE: question.kind,
            InfoKey.ANSWERS: question.answers,
        }
        if self._expert_name:
            self._expert = _begin_expert(self._expert_name, question, self._engine.max_searches)
        return Outcome(observation, info=self._state_info())

    def _advance(self, command: str) -> Outcome:
        engine = self._engine
        observation = engine.step(command)
        if self._expert is not None:
            move = engine.protocol.parse(command)
            if isinstance(move, Search | Answer):
                self._expert.observe(move, engine.protocol.brought(observation))
        return Outcome(observation, engine.outcome, engine.done, self._state_info())

    def _state_info(self) -> dict[str, Any]:
        engine = self._engine
        info = {
            **self._info,
            InfoKey.ADMISSIBLE_COMMANDS: engine.admissible_commands(),
            InfoKey.WON: engine.won,
            InfoKey.SCORE: engine.outcome,
            InfoKey.GOAL_CONDITION_SUCCESS_RATE: engine.goal_condition_success_rate,
            InfoKey.VALID_ACTION: engine.valid,
            InfoKey.ERROR: engine.error,
            InfoKey.ANSWER: engine.answer,
            InfoKey.SEARCH_RESULT: engine.result,
            InfoKey.MALFORMED_CALLS: engine.malformed,
            SEARCHES: engine.searches,
            FOUND_IDS: engine.found_ids,
            FOUND_TITLES: engine.found_titles,
        }
        if self._expert is not None:
            info[InfoKey.EXPERT_ACTION] = "" if engine.done else engine.protocol.render(self._expert.choose())
        return info


class _Expert(Protocol):
    def choose(self) -> Search | Answer: ...

    def observe(self, move: Search | Answer, result: str) -> None: ...


def _begin_expert(name: str, question: Question, max_searches: int | None) -> _Expert:
    if name == "oracle":
        from agentgym_prm.envs.wiki_search.experts import OracleExpert

        return OracleExpert(question, max_searches=max_searches)
    from agentgym_prm.envs.wiki_search.reader import MAX_SEARCHES, Reader

    return Reader(question.text, max_searches=min(MAX_SEARCHES, max_searches or MAX_SEARCHES))


class _Tasks:
    """The questions of a split, and where each of them stands. Read-only: a deep copy is the thing itself."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = questions

    def __deepcopy__(self, memo: dict[int, object]) -> "_Tasks":
        return self

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {question.id: place for place, question in enumerate(self.questions)}

    def index(self, question_id: str) -> int:
        if question_id not in self._places:
            raise UnknownNameError(f"no task {question_id!r} among the {len(self.questions)} of this split")
        return self._places[question_id]


def _open_tasks(data: Data, split: str, difficulty: str) -> _Tasks:
    splits = SPLITS if data == "builtin" else (*SPLITS, "all")
    if split not in splits:
        raise UnknownNameError.of("split", split, splits)
    if data == "builtin":
        return _builtin_tasks(split, difficulty)
    if not isinstance(data, str | PathLike):
        return _Tasks(_part(tuple(data), split, "the questions given"))
    return _file_tasks(*_state(_question_file(Path(data), split)), None if Path(data).expanduser().is_dir() else split)


def _open_index(
    index: str | PathLike[str] | PassageSearch | None, data: Data, split: str, difficulty: str
) -> PassageSearch:
    if index is None and data == "builtin":
        return _builtin_index(difficulty)
    if index is None and isinstance(data, str | PathLike):
        return _context_index(*_state(_question_file(Path(data), split)))
    if index is None:
        raise ValueError("questions that are given need index=: what is to be searched for their answers")
    from agentgym_prm.search.opening import open_search

    return open_search(str(index) if isinstance(index, PathLike) else index)


def _question_file(path: Path, split: str) -> Path:
    """The file itself, or that of the split in a folder."""
    path = path.expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataNotFoundError(f"no question file {path}; data='builtin' needs none")
    names = sorted(each.name for each in path.iterdir() if each.is_file())
    fitting = [name for name in names if {*_WORDS.findall(name.lower())} & {*_SPLIT_WORDS.get(split, ())}]
    if len(fitting) != 1:
        raise DataNotFoundError(
            f"{path} must hold one question file named after split {split!r}, or data= name a file; it holds "
            f"{', '.join(names) or 'none'}"
        )
    return path / fitting[0]


def _state(path: Path) -> tuple[Path, int, int]:
    """What changes when the file does."""
    stat = path.stat()
    return path.resolve(), stat.st_size, stat.st_mtime_ns


def _part(questions: Sequence[Question], split: str, where: str) -> Sequence[Question]:
    """Eight tenths to train on, one to choose by, one to judge by: a question is in the same part everywhere."""
    places = {"train": range(8), "valid": (8,), "test": (9,), "all": range(10)}[split]
    part = tuple(question for question in questions if crc32(question.id.encode()) % 10 in places)
    if not part:
        raise DataNotFoundError(f"{where}: none of {len(questions)} questions is in split {split!r}; try 'all'")
    return part


# Opened once for all environments of the process; what comes from a file, anew when it has changed.


@lru_cache(maxsize=8)
def _builtin_tasks(split: str, difficulty: str) -> _Tasks:
    from agentgym_prm.envs.wiki_search.world import builtin_world

    return _Tasks(builtin_world(difficulty).questions(split))


@lru_cache(maxsize=2)
def _builtin_index(difficulty: str) -> PassageSearch:
    from agentgym_prm.envs.wiki_search.world import builtin_world
    from agentgym_prm.search.passages import PassageIndex

    return PassageIndex.build(builtin_world(difficulty).passages)


@lru_cache(maxsize=8)
def _file_tasks(path: Path, size: int, changed: int, split: str | None) -> _Tasks:
    from agentgym_prm.envs.wiki_search.question_files import read_questions

    questions = read_questions(path)
    return _Tasks(questions if split is None else _part(questions, split, str(path)))


@lru_cache(maxsize=2)
def _context_index(path: Path, size: int, changed: int) -> PassageSearch:
    from agentgym_prm.envs.wiki_search.question_files import context_passages
    from agentgym_prm.search.passages import PassageIndex

    try:
        return PassageIndex.build(context_passages(path))
    except DataFormatError as error:
        raise ValueError(
            f"questions without paragraphs of their own need index=, what is to be searched for their answers: {error}"
        ) from error


def make_vector_env(num_envs: int = 1, max_episode_steps: int | None = None, **kwargs: Any) -> TextVectorEnv:
    """Entry point of ``gym.make_vec``: ``num_envs`` environments stepped together in this process."""
    return TextVectorEnv(partial(WikiSearchEnv, **kwargs), num_envs, max_episode_steps=max_episode_steps)
