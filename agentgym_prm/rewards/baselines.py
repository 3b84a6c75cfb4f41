"""Scorers that a learned reward model has to beat, and how to combine scorers. None needs a network of its own.

``MajorityScorer`` knows which kinds of commands tend to be good, ``BagOfWords`` what a linear model can read off the
prompt, ``LikelihoodScorer`` what the policy itself believes. The paper (arXiv:2502.10325) compares policies only, and
has no such baselines.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.errors import needs_extra
from agentgym_prm.rewards.core import StepScorer
from agentgym_prm.rewards.targets import ActionValues
from agentgym_prm.types import Action, History

FEATURES: Final = 2**20
"""Columns that the features of ``BagOfWords`` are hashed into."""
RIDGE: Final = 30.0
BETWEEN_SHARE: Final = 0.3
# A name with its number is one token: "fridge 1".
_TOKEN: Final = re.compile(r"[^\W\d_]+ \d+|[^\W\d_]+|\d+|[^\w\s]")


# --- what kind of command ---


class MajorityScorer:
    """The mean value of commands with the same verb, their first word; of all commands for a verb never met."""

    def __init__(self, values: dict[str, float], otherwise: float) -> None:
        self.name = "majority"
        self.values, self._otherwise = values, otherwise

    @classmethod
    def fit(cls, groups: Sequence[ActionValues]) -> "MajorityScorer":
        """Take the means over groups; ``ValueError`` if there are none."""
        _, actions, values_N = _rows(groups)
        by_verb: defaultdict[str, list[float]] = defaultdict(list)
        for action, value in zip(actions, values_N.tolist(), strict=True):
            by_verb[_verb(action.command)].append(value)
        return cls({verb: sum(values) / len(values) for verb, values in by_verb.items()}, float(values_N.mean()))

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        return np.array([self.values.get(_verb(a.command), self._otherwise) for a in actions], dtype=np.float64)


def _verb(command: str) -> str:
    return command.strip().partition(" ")[0]


# --- a linear model of the text ---


class BagOfWords:
    """Ridge regression of the value on hashed features of prompt and command; scores are clipped to [0, 1].

    A feature says that a text holds a word, or that two hold one each. "Kind" is a name without its number; a
    "signature" is a command's verb with, for each of its other words, whether the task names that kind.

    - words of the prompt, alone and crossed with the signature
    - the command's verb, kinds and signature; task word x command word
    - for each word of the command: whether the last observation holds it, and where the prompt does: the words before
      and after it and the first of its line, each crossed with the signature
    - how often the prompt holds the whole command
    - where the prompt holds the words of the task, in the same way, crossed with the signature

    What tells actions apart is how values differ within a history, and that is a small part of their variance. So the
    mean over each history of values and features is subtracted but for a share of 0.3 before the regression, which
    gains much in order and loses little in calibration. (A random-effects model is fitted like this: "quasi-demeaning",
    J. M. Wooldridge, Econometric Analysis of Cross Section and Panel Data, section 10.4.)
    """

    def __init__(self, prompt: Prompt, weights_F: NDArray[np.float64], intercept: float) -> None:
        self.name = "bag_of_words"
        self._prompt, self._weights_F, self._intercept = prompt, weights_F, intercept

    @classmethod
    def fit(
        cls,
        groups: Sequence[ActionValues],
        prompt: Prompt,
        *,
        ridge: float = RIDGE,
        between_share: float = BETWEEN_SHARE,
    ) -> "BagOfWords":
        """Fit the weights; nothing is drawn, so there is no seed.

        Args:
            groups: Actions after histories, with the values to predict.
            prompt: What of a history is shown. One that shows the state in few words suits a linear model best.
            ridge: Penalty on squared weights, above 0.
            between_share: How much of a history's mean is kept, in [0, 1]: 1 is plain ridge regression.

        Raises:
            ValueError: There are no groups, or an argument is out of range.
            MissingDependencyError: scikit-learn is not installed.
        """
        if not ridge > 0 or not 0 <= between_share <= 1:
            raise ValueError(f"need ridge > 0 and between_share in [0, 1], got {ridge} and {between_share}")
        histories, actions, values_N = _rows(groups)
        features_N_F, intercept = _features(histories, actions, prompt), float(values_N.mean())
        places_N = np.repeat(np.arange(len(groups)), [len(group.actions) for group in groups])
        counts_H = np.bincount(places_N)

        def demean(rows_N: NDArray[np.float64]) -> NDArray[np.float64]:
            means_H = np.bincount(places_N, rows_N) / counts_H
            return np.asarray(rows_N - (1 - between_share) * means_H[places_N], dtype=np.float64)

        return cls(prompt, _regression(features_N_F, values_N - intercept, demean, ridge), intercept)

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        if not histories:
            return np.zeros(0)
        features_N_F = _features(histories, actions, self._prompt)
        return np.asarray(np.clip(self._intercept + features_N_F @ self._weights_F, 0, 1), dtype=np.float64)


def _regression(
    features_N_F: Any,
    values_N: NDArray[np.float64],
    demean: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ridge: float,
) -> NDArray[np.float64]:
    """Weights that minimise ``|demean(values - features @ weights)|² + ridge |weights|²``."""
    with needs_extra("train"):
        from scipy.sparse.linalg import LinearOperator, lsqr
    # As an operator, because features without their means would no longer be sparse; demean is its own transpose.
    operator = LinearOperator(
        features_N_F.shape,
        matvec=lambda weights_F: demean(features_N_F @ weights_F.ravel()),
        rmatvec=lambda rows_N: features_N_F.T @ demean(rows_N.ravel()),
        dtype=np.float64,
    )
    return np.asarray(lsqr(operator, demean(values_N), damp=ridge**0.5, atol=1e-5, btol=1e-5)[0], dtype=np.float64)


def _features(histories: Sequence[History], actions: Sequence[Action], prompt: Prompt) -> Any:
    """A sparse matrix with one row for each pair."""
    with needs_extra("train"):
        from sklearn.feature_extraction import FeatureHasher
    states = {key: _State(history, prompt) for key, history in {id(history): history for history in histories}.items()}
    rows = (states[id(h)].features(a.command) for h, a in zip(histories, actions, strict=True))
    return FeatureHasher(FEATURES, input_type="string").transform(rows).tocsr()


class _State:
    """The words of a prompt, and where they stand: read once, crossed with many commands."""

    def __init__(self, history: History, prompt: Prompt) -> None:
        self.text = "\n".join(message.content for message in prompt.messages(history)).lower()
        self.observed = set(_tokens(history.observation))
        self.task = sorted({_kind(token) for token in _tokens(history.task)})
        self.places: defaultdict[str, set[str]] = defaultdict(set)
        for line in self.text.splitlines():
            tokens = ["^", *_tokens(line), "$"]
            for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
                self.places[token] |= {f"line {_kind(tokens[1])}", f"before {_kind(before)}", f"after {_kind(after)}"}
        kinds: defaultdict[str, set[str]] = defaultdict(set)
        for token, places in self.places.items():
            kinds[_kind(token)] |= places
        self.words = sorted(kinds)
        self.task_places = sorted(set().union(*(kinds[word] for word in self.task)))

    def features(self, command: str) -> Iterator[str]:
        """Names of all features that hold."""
        verb, *rest = _tokens(command) or [""]
        kinds = [_kind(token) for token in rest]
        signature = verb + "".join("+" if kind in self.task else "-" for kind in kinds)
        yield from (f"verb {verb}", f"signature {signature}", f"kinds {verb} {' '.join(kinds)}")
        yield f"said {verb} {min(self.text.count(command.lower()), 3)}"
        for word in self.words:
            yield f"prompt {word}"
            yield f"prompt {word} signature {signature}"
        for place in self.task_places:
            yield f"task {place} signature {signature}"
        for position, (token, kind) in enumerate(zip(rest, kinds, strict=True)):
            yield f"kind {verb} {kind}"
            yield f"observed {signature} {position} {token in self.observed}"
            yield from (f"at {signature} {position} {place}" for place in sorted(self.places.get(token, ())))
        for word in self.task:
            yield f"task {word} verb {verb}"
            yield from (f"task {word} kind {kind}" for kind in kinds)
            yield from (f"task {word} kind {verb} {kind}" for kind in kinds)


def _tokens(text: str) -> list[str]:
    # A model's command may hold half a surrogate pair, which the hasher cannot encode.
    return _TOKEN.findall(text.lower().encode("utf-8", "replace").decode("utf-8"))


def _kind(token: str) -> str:
    return token.partition(" ")[0]


def _rows(groups: Sequence[ActionValues]) -> tuple[list[History], list[Action], NDArray[np.float64]]:
    """Groups written out: one history, action and value a row."""
    actions = [action for group in groups for action in group.actions]
    if not actions:
        raise ValueError("no actions to fit a scorer to")
    histories = [group.history for group in groups for _ in group.actions]
    return histories, actions, np.array([value for group in groups for value in group.values], dtype=np.float64)


# --- what the policy believes ---


class CommandLikelihood(Protocol):
    """An agent that knows how likely it is to give each admissible command, as ``LocalAgent`` does."""

    @property
    def name(self) -> str:
        """What the agent is called."""

    def score_commands(self, histories: Sequence[History]) -> list[list[float]]:
        """For each history the log-probability of each admissible command, in their order."""


class LikelihoodScorer:
    """The log-probability with which an agent chooses the command among the admissible ones.

    A command that is not admissible scores 1 less than the least likely of those that are.
    """

    def __init__(self, agent: CommandLikelihood) -> None:
        self.name = f"likelihood_{agent.name}"
        self._agent = agent

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        different = {id(history): history for history in histories}
        if not different:
            return np.zeros(0)
        found = self._agent.score_commands(list(different.values()))
        tables = {key: _log_shares(h, logprobs) for (key, h), logprobs in zip(different.items(), found, strict=True)}
        pairs = [(tables[id(h)], a.command.strip()) for h, a in zip(histories, actions, strict=True)]
        return np.array([shares.get(command, min(shares.values()) - 1) for shares, command in pairs], dtype=np.float64)


def _log_shares(history: History, logprobs: Sequence[float]) -> dict[str, float]:
    logprobs_C = np.array(logprobs, dtype=np.float64)
    shares_C = logprobs_C - np.logaddexp.reduce(logprobs_C)
    return dict(zip(history.admissible_commands, shares_C.tolist(), strict=True))


# --- several at once ---


class CombinedScorer:
    """A weighted sum of scores, such as ``log pi + beta * Q``.

    Raises:
        ValueError: There are no scorers, or not one weight for each.
    """

    def __init__(self, scorers: Sequence[StepScorer], weights: Sequence[float], name: str = "") -> None:
        if not scorers or len(weights) != len(scorers):
            raise ValueError(f"need one weight for each of at least one scorer, got {len(weights)} for {len(scorers)}")
        parts = zip(weights, scorers, strict=True)
        self.name = name or "+".join(f"{weight:g}*{scorer.name}" for weight, scorer in parts)
        self._scorers, self._weights = tuple(scorers), tuple(weights)

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        parts = zip(self._weights, self._scorers, strict=True)
        scores = [weight * scorer.score(histories, actions) for weight, scorer in parts]
        return np.asarray(np.sum(scores, axis=0), dtype=np.float64)
