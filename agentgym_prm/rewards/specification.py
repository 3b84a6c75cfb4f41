"""Reward terms by name, as they are asked for on the command line: ``KIND[:ARGUMENT][@COEFFICIENT]``.

::

    prm:FOLDER             a reward model's score less that of the best admissible command: 0, or what is lost by it;
                           the model is one of actions (train-prm) or of steps (train-step-labels)
    prm-advantage:FOLDER   its score less the mean of all admissible commands
    prm-score:FOLDER       its score as it is; positive at every step, so that long episodes are paid for
    spa:FOLDER             a turn's contribution to the outcome, by a progress estimator (arXiv:2505.20732)
    shaping:gcsr           the change of the share of the goal's conditions that hold
    shaping:value:FOLDER   the change of a value model's estimate
    rubric:NAME            one of ``RUBRICS``
    judge:VENDOR:MODEL     a chat model's score of the action, in [0, 1]; VENDOR:MODEL@http://… for another address

A reward model or progress estimator may be behind a server: its address stands in place of the folder, in the forms of
``rewards.remote`` (``prm:http://localhost:8008``, ``prm:FOLDER@vllm+http://localhost:8000@0.5``).
SPA-RL is ``spa:FOLDER`` with ``rubric:valid_action@0.5``. The coefficient is 1 by default and may be negative
(``rubric:repeated_command@-0.1``). ``@`` means nothing to a shell; a folder whose name ends in ``@`` and a number is
followed by a coefficient of its own. The folder of the stage that trained a model stands for the model in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentgym_prm.errors import UnknownNameError, UsageError
from agentgym_prm.inference import CompletionCache
from agentgym_prm.rewards.core import AdvantageScorer, Baseline, RewardTerm, ScorerTerm, StepScorer, Weighted
from agentgym_prm.rewards.judge import check_judge, connect_judge
from agentgym_prm.rewards.prm import ProcessRewardModel
from agentgym_prm.rewards.progress import ProgressEstimator
from agentgym_prm.rewards.remote import connect_scorer, is_remote, reader_folder
from agentgym_prm.rewards.rubric import RUBRICS, Rubric
from agentgym_prm.rewards.shaping import Shaping, ValuePotential, goal_conditions
from agentgym_prm.rewards.token_labels import SETTINGS_FILE, TokenLabelScorer

SCORERS: Final = ("prm", "prm-advantage", "prm-score", "spa", "judge")
"""Kinds that judge an action before it is taken."""
KINDS: Final = (*SCORERS, "shaping", "rubric")
_BASELINES: Final[Mapping[str, Baseline]] = {"prm": "best", "prm-advantage": "mean"}
"""What the score of a reward model is compared with."""
_POTENTIALS: Final = ("gcsr", "value")
_COMPLETIONS: Final = Path("runs/completions")
"""Where a judge's replies are kept."""
_FORM: Final = "write KIND:ARGUMENT or KIND:ARGUMENT@COEFFICIENT, as in prm:runs/demo/prm@0.5"
_MODEL_FILES: Final = {
    "prm.json": "process reward model",
    SETTINGS_FILE: "step-label model",
    "progress.json": "progress estimator",
}


@dataclass(frozen=True, slots=True)
class RewardSpecification:
    """What is to be paid for each turn, and how much it counts."""

    kind: str
    """One of ``KINDS``."""
    argument: str
    """Folder or name; for a value model as potential ``value:FOLDER``."""
    coef: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "RewardSpecification":
        """Read ``KIND:ARGUMENT[@COEFFICIENT]``.

        Raises:
            UnknownNameError: No such kind, rubric or potential.
            UsageError: The argument is missing, its folder holds no such model, or the coefficient is not finite.

        >>> RewardSpecification.parse("rubric:valid_action@0.5")
        RewardSpecification(kind='rubric', argument='valid_action', coef=0.5)
        """
        whole, coef = _coefficient(text)
        if not math.isfinite(coef):
            raise UsageError(f"the coefficient of {text!r} must be finite: {_FORM}")
        kind, _, argument = whole.partition(":")
        if kind not in KINDS:
            raise UnknownNameError.of("kind of reward", kind, KINDS)
        if not argument:
            raise UsageError(f"the reward {text!r} does not say of what: {_FORM}")
        specification = cls(kind, argument, coef)
        specification._check()
        return specification

    def _check(self) -> None:
        """Let what is wrong show before anything is loaded."""
        if self.kind == "rubric" and self.argument not in RUBRICS:
            raise UnknownNameError.of("rubric", self.argument, RUBRICS)
        if self.kind == "shaping":
            potential, _, folder = self.argument.partition(":")
            if potential not in _POTENTIALS:
                raise UnknownNameError.of("potential of shaping", potential, _POTENTIALS)
            if potential == "value" and not folder:
                raise UsageError("shaping:value does not say which model: write shaping:value:FOLDER")
            if potential == "gcsr" and folder:
                raise UsageError(f"shaping:gcsr takes no folder, got {folder!r}")
        if self.kind == "judge":
            check_judge(self.argument)
        if self.folder is not None:
            self._model_folder()

    @property
    def folder(self) -> Path | None:
        """The model's folder, or that of the stage that trained it; ``None`` for what needs none here."""
        if self._is_remote:
            folder = reader_folder(self.argument)
            return Path(folder) if folder else None
        if self.kind in SCORERS and self.kind != "judge":
            return Path(self.argument)
        is_value = self.kind == "shaping" and self.argument.startswith("value:")
        return Path(self.argument.removeprefix("value:")) if is_value else None

    @property
    def _is_remote(self) -> bool:
        return self.kind in SCORERS and self.kind != "judge" and is_remote(self.argument)

    def scorer(self, **options: Any) -> StepScorer:
        """What judges actions: of a ``prm`` the score itself, as among the actions of one history it orders them alike.

        Args:
            **options: Fields of ``ModelConfig`` for loading a model.

        Raises:
            UsageError: This kind judges finished turns only.
            ServiceError: The server does not answer.
        """
        if self.kind not in SCORERS:
            raise UsageError(f"{self} judges turns that are over: an action is judged by {', '.join(SCORERS)}")
        if self.kind == "judge":
            return connect_judge(self.argument, cache=CompletionCache(_COMPLETIONS))
        if self._is_remote:
            return connect_scorer(self.argument)
        folder = self._model_folder()
        if self.kind == "spa":
            return ProgressEstimator.load(folder, **options)
        if (folder / SETTINGS_FILE).is_file():
            return TokenLabelScorer.load(folder, **options)
        model = ProcessRewardModel.load(folder, **options)
        if model.settings.judges != "action":
            raise UsageError(f"{folder} is a value model: use it as shaping:value:{self.argument}")
        return model

    def term(self, *, gamma: float = 1.0, **options: Any) -> RewardTerm:
        """What pays for turns, without the coefficient.

        Args:
            gamma: The learner's discount, which shaping needs.
            **options: As for ``scorer``.
        """
        if self.kind == "rubric":
            return Rubric.of({self.argument: 1.0})
        if self.kind == "shaping":
            return Shaping(self._potential(options), gamma)
        scorer = self.scorer(**options)
        if self.kind in _BASELINES:
            scorer = AdvantageScorer(scorer, _BASELINES[self.kind])
        return ScorerTerm(scorer)

    def _potential(self, options: dict[str, Any]) -> Any:
        if self.argument == "gcsr":
            return goal_conditions()
        folder = self._model_folder()
        model = ProcessRewardModel.load(folder, **options)
        if model.settings.judges != "history":
            raise UsageError(f"{folder} judges actions, not histories: use it as prm:{folder}")
        return ValuePotential(model)

    def _model_folder(self) -> Path:
        """Where the model is, for it may be the folder of the stage that trained it."""
        assert self.folder is not None
        files = {"spa": ("progress.json",), "shaping": ("prm.json",)}.get(self.kind, ("prm.json", SETTINGS_FILE))
        for place in (self.folder, self.folder / "model"):
            if any((place / file).is_file() for file in files):
                return place
        raise UsageError(f"{self}: {_what_is_in(self.folder)}, no {_MODEL_FILES[files[0]]}")

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" + (f"@{self.coef:g}" if self.coef != 1 else "")


def load_terms(
    specifications: Sequence[RewardSpecification], *, gamma: float = 1.0, **options: Any
) -> tuple[Weighted, ...]:
    """The terms with their coefficients; of two of one name the later is numbered.

    Args:
        specifications: What is paid.
        gamma: The learner's discount, which shaping needs.
        **options: Fields of ``ModelConfig`` for loading models.
    """
    terms: dict[str, Weighted] = {}
    for each in specifications:
        term = each.term(gamma=gamma, **options)
        name = next(name for name in _numbered(term.name, len(terms)) if name not in terms)
        terms[name] = Weighted(term, each.coef, name)
    return tuple(terms.values())


def _numbered(name: str, others: int) -> list[str]:
    return [name, *(f"{name}_{number}" for number in range(2, others + 2))]


def _coefficient(text: str) -> tuple[str, float]:
    """The text before its last ``@`` and the number behind it; the whole text if that is no number."""
    before, _, after = text.rpartition("@")
    try:
        return (before, float(after)) if before else (text, 1.0)
    except ValueError:
        return text, 1.0


def _what_is_in(folder: Path) -> str:
    if not folder.exists():
        return f"there is no folder {folder}"
    found = [
        kind for file, kind in _MODEL_FILES.items() if any((folder / place / file).is_file() for place in ("", "model"))
    ]
    return f"{folder} holds {'a ' + found[0] if found else 'no model that judges'}"
