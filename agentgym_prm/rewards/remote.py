"""Step scorers behind a server: one of ours, or a reward model's network behind vLLM or SGLang.

::

    http://HOST:PORT                 `agentgym-prm serve-prm`: gets histories and actions, makes the texts itself
    FOLDER@vllm+http://HOST:PORT     POST /classify: sequence classifiers, as our scalar heads are
    FOLDER@vllm-pooling+http://…     POST /pooling: reward models with a pooler of their own
    FOLDER@vllm-score+http://…       POST /score: takes texts only
    FOLDER@sglang+http://…           POST /classify, SGLang's own (its /v1/classify gives 1.0 for every text: a softmax
                                     over one class)

Engines serve the network alone. Prompt, tokenizer and link are those of FOLDER, as ``ProcessRewardModel.save`` wrote
it, and what is sent are the token ids that the local model would read; ``/score`` of vLLM cuts the texts into tokens
itself, and puts the tokenizer's first token before them. Engines are asked for the network's output without their own
activation, and the link is applied here.

Request and reply forms: vLLM 0.32 (``vllm/entrypoints/pooling``; tried with a server of that version), SGLang
(``srt/entrypoints/http_server.py`` and ``EmbeddingReqInput``; read on 2026-11-21, not tried). A key, if the server asks
for one, is read from ``SCORER_API_KEY``.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.errors import ServiceError, UnknownNameError, UsageError
from agentgym_prm.inference.retry import RetryPolicy
from agentgym_prm.inference.service import JSONService
from agentgym_prm.types import Action, History, Step

if TYPE_CHECKING:
    from agentgym_prm.rewards.prm import PRMReader

SCORE_PATH: Final = "/score"
HEALTH_PATH: Final = "/health"
KEY_VARIABLE: Final = "SCORER_API_KEY"
_SCHEMES: Final = ("http://", "https://")


class Question(NamedTuple):
    """One request: what is sent, and the places of the pairs that it asks about."""

    body: Mapping[str, Any]
    places: tuple[tuple[int, ...], ...]
    """Of each item that is sent, the pairs that have its score."""


class ScoringAPI(ABC):
    """What a kind of server is sent, and what it answers."""

    path: ClassVar[str]

    @abstractmethod
    def questions(self, histories: Sequence[History], actions: Sequence[Action]) -> list[Question]:
        """The requests that score all pairs."""

    @abstractmethod
    def scores(self, reply: Any) -> NDArray[np.float64]:
        """The score of each item of a request.

        Raises:
            ValueError, TypeError, LookupError: The reply has another form.
        """


class RemoteScorer:
    """A ``StepScorer`` behind a server; safe to use from several threads.

    Args:
        url: Address of the server.
        api: What it speaks; by default that of `agentgym-prm serve-prm`.
        name: What the scores are called.
        concurrency: Most requests out at a time.
        timeout: Seconds for a whole reply.
        retry: Which failures are tried again, and when; by default six attempts in two minutes.

    Raises:
        UsageError: ``url`` is no http address, or holds a password.

    Raises (when scoring):
        ServiceError: The server does not answer, refuses, or answers what no such scorer would.
    """

    def __init__(
        self,
        url: str,
        api: ScoringAPI | None = None,
        *,
        name: str = "prm",
        concurrency: int = 32,
        timeout: float = 120.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.name = name
        self.service = JSONService(
            url, concurrency=concurrency, timeout=timeout, retry=retry, key_variables=(KEY_VARIABLE,)
        )
        self._api = api or OwnServer()
        self._lock = threading.Lock()

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        """The score of each action after the history at the same place, shape ``(N,)``."""
        if len(actions) != len(histories):
            raise ValueError(f"got {len(histories)} histories and {len(actions)} actions")
        # What prompts and chats keep of earlier turns is not made for several threads.
        with self._lock:
            questions = self._api.questions(histories, actions)
        scores_N = np.empty(len(histories))
        answers = self.service.post(self._api.path, [question.body for question in questions], self._read)
        for question, answer in zip(questions, answers, strict=True):
            if len(answer) != len(question.places):
                raise ServiceError(
                    f"{self.service.base_url}{self._api.path} gave {len(answer)} scores for {len(question.places)}"
                )
            for score, places in zip(answer, question.places, strict=True):
                scores_N[list(places)] = score
        return scores_N

    def _read(self, body: Any, reply: Any) -> NDArray[np.float64]:
        scores = self._api.scores(reply)
        if scores.ndim != 1 or not np.isfinite(scores).all():
            raise ValueError("scores are not finite numbers")
        return scores


def connect_scorer(text: str, **options: Any) -> RemoteScorer:
    """The scorer at an address, in the forms above. The server is asked whether it is there.

    Args:
        text: The address.
        **options: As for ``RemoteScorer``.

    Raises:
        UsageError: It is none of the forms.
        UnknownNameError: No such engine.
        ServiceError: Nothing answers there, or it is no server of this kind.
    """
    folder, engine, url = _parts(text)
    if engine is None:
        scorer = RemoteScorer(url, **options)
        health = scorer.service.get(HEALTH_PATH)
        if not (isinstance(health, Mapping) and isinstance(health.get("scorer"), str)):
            raise ServiceError(
                f"{url} is no server of `agentgym-prm serve-prm`; for an engine write FOLDER@vllm+{url} or "
                f"FOLDER@sglang+{url}"
            )
        scorer.name = health["scorer"]
        return scorer
    from agentgym_prm.rewards.prm import PRMReader

    inner = Path(folder) / "model"  # the folder of the stage that trained it stands for the model in it
    reader = PRMReader.load(inner if (inner / "prm.json").is_file() else folder)
    return RemoteScorer(url, ENGINES[engine](reader), **options)


def is_remote(text: str) -> bool:
    """Whether a scorer's name is an address rather than a folder."""
    return text.startswith(_SCHEMES) or any(f"+{scheme}" in text for scheme in _SCHEMES)


def reader_folder(text: str) -> str | None:
    """The folder of tokenizer and prompt that an address names; ``None`` if the server makes the texts."""
    return _parts(text)[0] or None


def _parts(text: str) -> tuple[str, str | None, str]:
    """Folder, engine and address."""
    if text.startswith(_SCHEMES):
        return "", None, text
    scheme = next((scheme for scheme in _SCHEMES if f"+{scheme}" in text), None)
    before, _, host = text.partition(f"+{scheme}")
    folder, at, engine = before.rpartition("@")
    if scheme is None or not at or not folder:
        raise UsageError(f"write http://HOST:PORT or FOLDER@ENGINE+http://HOST:PORT, got {text!r}")
    if engine not in ENGINES:
        raise UnknownNameError.of("engine", engine, ENGINES)
    return folder, engine, scheme + host


# --- our own server ---


class OwnServer(ScoringAPI):
    """`agentgym-prm serve-prm`.

    Args:
        pairs: Most pairs of a request.
    """

    path = SCORE_PATH

    def __init__(self, pairs: int = 256) -> None:
        self._pairs = pairs

    def questions(self, histories: Sequence[History], actions: Sequence[Action]) -> list[Question]:
        by_history: dict[int, list[int]] = {}
        for place, history in enumerate(histories):
            by_history.setdefault(id(history), []).append(place)
        order = [place for places in by_history.values() for place in places]
        parts = [order[start : start + self._pairs] for start in range(0, len(order), self._pairs)]
        return [
            Question(
                score_request([histories[place] for place in part], [actions[place] for place in part]),
                tuple((place,) for place in part),
            )
            for part in parts
        ]

    def scores(self, reply: Any) -> NDArray[np.float64]:
        return np.array(reply["scores"], dtype=np.float64)


def score_request(histories: Sequence[History], actions: Sequence[Action]) -> dict[str, Any]:
    """The body of a request to our server; each history object once."""
    numbers: dict[int, int] = {}
    shown: list[dict[str, Any]] = []
    pairs: list[list[Any]] = []
    for history, action in zip(histories, actions, strict=True):
        if id(history) not in numbers:
            numbers[id(history)] = len(shown)
            shown.append(history_to_json(history))
        pairs.append([numbers[id(history)], _judged(action).to_json()])
    return {"histories": shown, "pairs": pairs}


def read_score_request(body: Any) -> tuple[list[History], list[Action]]:
    """Inverse of ``score_request``; pairs of one history get the same object.

    Raises:
        ValueError: It is not one.
    """
    try:
        histories = [history_from_json(record) for record in body["histories"]]
        pairs = [(_place(number, len(histories)), Action.from_json(action)) for number, action in body["pairs"]]
        for _, action in pairs:
            _check_action(action)
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        form = "{histories: [...], pairs: [[number, action], ...]}"
        raise ValueError(f"not a request of the form {form} ({error})") from error
    return [histories[number] for number, _ in pairs], [action for _, action in pairs]


def history_to_json(history: History) -> dict[str, Any]:
    """What a scorer may know of a history, as JSON values; candidates and log-probabilities are left out."""
    return {
        "task": history.task,
        "observation": history.observation,
        "admissible_commands": list(history.admissible_commands),
        "steps": [replace(step, action=_judged(step.action)).to_json() for step in history.steps],
        "task_id": history.task_id,
        "task_type": history.task_type,
        "seed": history.seed,
        "episode": history.episode,
    }


def history_from_json(record: Any) -> History:
    """Inverse of ``history_to_json``."""
    fields = dict(record)
    fields["admissible_commands"] = tuple(fields["admissible_commands"])
    fields["steps"] = tuple(Step.from_json(step) for step in fields["steps"])
    history = History(**fields)
    texts = (history.task, history.observation, *history.admissible_commands)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("task, observation and commands must be texts")
    for step in history.steps:
        _check_action(step.action)
        if not all(isinstance(text, str) for text in (step.observation, *step.admissible_commands)):
            raise TypeError("observations and commands must be texts")
    return history


def _judged(action: Action) -> Action:
    return replace(action, candidates=(), logprobs=())


def _check_action(action: Action) -> None:
    if not all(isinstance(text, str) for text in (action.command, action.reply, action.reasoning)):
        raise TypeError("command, reply and reasoning must be texts")
    if not all(isinstance(token, int) for token in action.token_ids):
        raise TypeError("token ids must be numbers")


def _place(number: Any, count: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < count:
        raise ValueError(f"there is no history {number!r} among {count}")
    return number


# --- engines that serve the network ---


class Engine(ScoringAPI):
    """A reward model's network behind an inference engine.

    Args:
        reader: Prompt, tokenizer and link.
        model: As the server calls it; by default the one that it serves.
        items: Most texts of a request: engines batch by themselves.

    Raises:
        UsageError: The model has no scalar head that judges actions, which is all that engines serve.
    """

    def __init__(self, reader: "PRMReader", model: str | None = None, items: int = 32) -> None:
        settings = reader.settings
        if settings.head != "scalar" or settings.judges != "action":
            raise UsageError(
                f"engines serve networks with a scalar head that judge actions; this one has the head "
                f"{settings.head!r} and judges {settings.judges}: `agentgym-prm serve-prm` serves the head likelihood"
            )
        self.reader, self._model, self._items = reader, model, items

    def questions(self, histories: Sequence[History], actions: Sequence[Action]) -> list[Question]:
        places: dict[Any, list[int]] = {}
        for place, (history, action) in enumerate(zip(histories, actions, strict=True)):
            places.setdefault(self._item(history, action), []).append(place)
        items = list(places)
        parts = [items[start : start + self._items] for start in range(0, len(items), self._items)]
        return [Question(self._body(part), tuple(tuple(places[item]) for item in part)) for part in parts]

    def scores(self, reply: Any) -> NDArray[np.float64]:
        return self.reader.scores([_one(numbers) for numbers in self._outputs(reply)])

    def _item(self, history: History, action: Action) -> Any:
        """What one text is sent as."""
        asked = self.reader.asked(history, [action])
        return (*asked.prompt, *asked.replies[0])

    @abstractmethod
    def _body(self, items: Sequence[Any]) -> dict[str, Any]:
        """The request for some items."""

    @abstractmethod
    def _outputs(self, reply: Any) -> list[Any]:
        """The network's outputs for each item."""

    def _named(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "model": self._model} if self._model else body


class VLLMClassify(Engine):
    """``vllm serve FOLDER --runner pooling``, ``POST /classify``."""

    path = "/classify"

    def _body(self, items: Sequence[Any]) -> dict[str, Any]:
        body = {"input": [list(item) for item in items], "use_activation": False, "add_special_tokens": False}
        return self._named(body)

    def _outputs(self, reply: Any) -> list[Any]:
        return [each["probs"] for each in _in_order(reply["data"])]


class VLLMPooling(VLLMClassify):
    """``POST /pooling``; of a model that gives a number for each token, that of the last one counts."""

    path = "/pooling"

    def _outputs(self, reply: Any) -> list[Any]:
        outputs = [each["data"] for each in _in_order(reply["data"])]
        return [numbers[-1] if numbers and isinstance(numbers[-1], list) else numbers for numbers in outputs]


class VLLMScore(Engine):
    """``POST /score``: pairs of texts, which vLLM puts one after the other if the model has no form for pairs."""

    path = "/score"

    def _item(self, history: History, action: Action) -> Any:
        return self.reader.texts(history, action)

    def _body(self, items: Sequence[Any]) -> dict[str, Any]:
        prompts, replies = zip(*items, strict=True)
        return self._named({"text_1": list(prompts), "text_2": list(replies), "use_activation": False})

    def _outputs(self, reply: Any) -> list[Any]:
        return [[each["score"]] for each in _in_order(reply["data"])]


class SGLangClassify(Engine):
    """``python -m sglang.launch_server --model-path FOLDER --is-embedding``, ``POST /classify``."""

    path = "/classify"

    def _body(self, items: Sequence[Any]) -> dict[str, Any]:
        return {"input_ids": [list(item) for item in items]}

    def _outputs(self, reply: Any) -> list[Any]:
        if not isinstance(reply, list):
            raise TypeError("no list")
        return [each["embedding"] for each in reply]


ENGINES: Final[Mapping[str, type[Engine]]] = {
    "vllm": VLLMClassify,
    "vllm-pooling": VLLMPooling,
    "vllm-score": VLLMScore,
    "sglang": SGLangClassify,
}


def _in_order(data: Any) -> list[Any]:
    return sorted(data, key=lambda each: int(each["index"]))


def _one(numbers: Any) -> float:
    if not isinstance(numbers, list) or len(numbers) != 1:
        count = len(numbers) if isinstance(numbers, list) else "no list of"
        raise ValueError(f"a reward model gives one number for a text, this gave {count} numbers")
    return float(numbers[0])
