"""Step labels: attempts at a problem with each step judged right or wrong, and how well a scorer tells them apart.

Files of five forms are read, as they are distributed (``read_step_labels``)::

    steps             {"input": …, "value": [step, …], "label": ["+" or "-", …]}: this package's own form
    prm800k           human labels of single steps with alternatives (arXiv:2305.20050)
    math_shepherd     Monte-Carlo labels that stand in the text where the marker "ки" stood (arXiv:2312.08935)
    processbench      the index of the first wrong step (arXiv:2412.06559)
    agentprocessbench labels -1, 0, +1 of the assistant messages of an agent's conversation

How well a scorer tells the steps apart: ``step_quality.py``. A model that scores them: ``token_labels.py``.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, TypeVar

from agentgym_prm.errors import DataFormatError, UnknownNameError
from agentgym_prm.types import Action, History

RIGHT: Final = 1
NEUTRAL: Final = 0
WRONG: Final = -1
_SIGNS: Final[Mapping[Any, int | None]] = {"+": RIGHT, "0": NEUTRAL, "-": WRONG, None: None}
_SHEPHERD_MARKER: Final = "ки"
_FIRST_STEP: Final = re.compile(r"step 1:", re.IGNORECASE)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StepLabels:
    """An attempt at a problem, and how each of its steps was judged.

    Raises:
        ValueError: There is another number of labels or observations than of steps, or a label is none.
    """

    input: str
    """The problem, or an agent's task."""
    steps: tuple[str, ...]
    """What was written, step by step."""
    labels: tuple[int | None, ...] = ()
    """``RIGHT``, ``NEUTRAL``, ``WRONG`` or ``None`` (not judged) for each step; empty: none was judged."""
    observations: tuple[str, ...] = ()
    """What was read before each step, e.g. a tool's answer; empty where steps follow upon each other."""
    name: str = ""
    """What the file calls it; those of one problem need not share it."""

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", (None,) * len(self.steps))
        if not self.observations:
            object.__setattr__(self, "observations", ("",) * len(self.steps))
        for field in ("labels", "observations"):
            if len(getattr(self, field)) != len(self.steps):
                raise ValueError(f"{len(self.steps)} steps need as many {field}, got {len(getattr(self, field))}")
        if strange := set(self.labels) - {RIGHT, NEUTRAL, WRONG, None}:
            raise ValueError(f"a label is 1, 0, -1 or None, got {strange.pop()!r}")

    @property
    def first_error(self) -> int | None:
        """Index of the first wrong step, -1 if no step is wrong; ``None`` if a step that matters was not judged."""
        for index, label in enumerate(self.labels):
            if label is None:
                return None
            if label == WRONG:
                return index
        return -1

    def to_json(self) -> dict[str, Any]:
        """The form ``steps``; what was observed and the name are left out where there are none."""
        signs = {label: sign for sign, label in _SIGNS.items()}
        record: dict[str, Any] = {
            "input": self.input,
            "value": list(self.steps),
            "label": [signs[label] for label in self.labels],
        }
        if any(self.observations):
            record["observations"] = list(self.observations)
        return {**record, "name": self.name} if self.name else record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "StepLabels":
        """Inverse of ``to_json``.

        Raises:
            DataFormatError: A field is missing, or is not what it should be.
        """
        return _own(_Node(record, "a step-label record"))[0]

    @classmethod
    def of_turn(cls, history: History, action: Action, *, reads: str = "reply") -> "StepLabels":
        """An agent's turns up to ``action`` as an attempt, unjudged: turns are steps, what came before each was read.

        Args:
            history: What the agent knew.
            action: What it chose.
            reads: ``"reply"`` takes all that was written, where there is something, ``"command"`` the command alone.
        """
        actions = [*(step.action for step in history.steps), action]
        texts = [each.reply or each.command if reads == "reply" else each.command for each in actions]
        observations = [*(step.observation for step in history.steps), history.observation]
        return cls(history.task, tuple(texts), observations=tuple(observations))


# --- files ---


@dataclass(frozen=True, slots=True)
class _Node:
    """A value in a file that knows where it stands."""

    value: Any
    where: str
    field: str = ""

    def error(self, rule: str) -> DataFormatError:
        return DataFormatError(f"{self.where}: field {self.field!r} {rule}, got {self.value!r:.80}")

    def __getitem__(self, name: str) -> "_Node":
        inner = f"{self.field}.{name}" if self.field else name
        if not isinstance(self.value, Mapping):
            place = f"field {self.field!r}" if self.field else "a row"
            raise DataFormatError(f"{self.where}: {place} should be an object, got {self.value!r:.80}")
        if name not in self.value:
            raise DataFormatError(f"{self.where}: field {inner!r} is missing")
        return _Node(self.value[name], self.where, inner)

    def get(self, name: str) -> "_Node | None":
        """The field, or ``None`` if it is missing or null."""
        node = None if isinstance(self.value, Mapping) and name not in self.value else self[name]
        return None if node is None or node.value is None else node

    def of(self, kind: type[_T]) -> _T:
        if not isinstance(self.value, kind) or (kind is int and isinstance(self.value, bool)):
            raise self.error(f"should be of type {kind.__name__}")
        return self.value

    def items(self) -> list["_Node"]:
        return [_Node(each, self.where, f"{self.field}[{place}]") for place, each in enumerate(self.of(list))]

    def texts(self) -> tuple[str, ...]:
        return tuple(each.of(str) for each in self.items())

    def label(self, labels: Mapping[Any, int | None]) -> int | None:
        if isinstance(self.value, list | dict) or self.value not in labels:
            raise self.error(f"should be one of {', '.join(repr(each) for each in labels)}")
        return labels[self.value]


_NUMBERS: Final[Mapping[Any, int | None]] = {RIGHT: RIGHT, NEUTRAL: NEUTRAL, WRONG: WRONG, None: None}


def read_step_labels(path: str | Path, form: str | None = None) -> list[StepLabels]:
    """The attempts in a JSON-lines file, which may be compressed (``.gz``).

    Args:
        path: The file.
        form: One of ``FORMS``; by default the one whose fields the first row has.

    A row of PRM800K gives several: the attempt that was gone on with, and each alternative after the steps before it,
    which are not judged again there, so that every rating counts once. A step that a person wrote has no rating. A row
    without any rating gives none.

    Raises:
        DataFormatError: A row is damaged or of another form; the message names file, line and field.
        UnknownNameError: There is no such form.
        FileNotFoundError: There is no such file.
    """
    if form is not None and form not in FORMS:
        raise UnknownNameError.of("form of step labels", form, FORMS)
    examples: list[StepLabels] = []
    for row in _rows(Path(path)):
        form = form or _form_of(row)
        examples += FORMS[form](row)
    return examples


def _rows(path: Path) -> Iterator[_Node]:
    file: TextIO
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    yield _Node(json.loads(line), where)
                except json.JSONDecodeError as error:
                    raise DataFormatError(f"{where}: no JSON: {error}") from error


def _form_of(row: _Node) -> str:
    fields = set(row.value) if isinstance(row.value, dict) else set()
    for form, needed in _FIELDS.items():
        if needed <= fields:
            return form
    raise DataFormatError(
        f"{row.where}: the fields {', '.join(sorted(fields)) or '(none)'} are of no known form; known: "
        + "; ".join(f"{form} ({', '.join(sorted(needed))})" for form, needed in _FIELDS.items())
    )


def _own(row: _Node) -> list[StepLabels]:
    problem, steps = row["input"].of(str), row["value"].texts()
    labels = tuple(each.label(_SIGNS) for each in row["label"].items())
    observations, name = row.get("observations"), row.get("name")
    seen = observations.texts() if observations else ()
    try:
        return [StepLabels(problem, steps, labels, seen, name.of(str) if name else "")]
    except ValueError as error:
        raise DataFormatError(f"{row.where}: fields 'value' and 'label' do not go together: {error}") from error


def _prm800k(row: _Node) -> list[StepLabels]:
    problem = row["question"]["problem"].of(str)
    texts: list[str] = []
    labels: list[int | None] = []
    alternatives = []
    for step in row["label"]["steps"].items():
        offered = step.get("completions")
        completions = offered.items() if offered else []
        chosen = step.get("chosen_completion")
        taken = chosen.of(int) if chosen else None
        if taken is not None and not 0 <= taken < len(completions):
            raise step["chosen_completion"].error(f"should be below the {len(completions)} completions")
        for number, completion in enumerate(completions):
            rating = completion["rating"].label(_NUMBERS)
            if number != taken and rating is not None:
                attempt = (*texts, completion["text"].of(str))
                alternatives.append(StepLabels(problem, attempt, (*(None for _ in texts), rating)))
        written = step.get("human_completion")
        if taken is not None:
            texts.append(completions[taken]["text"].of(str))
            labels.append(completions[taken]["rating"].label(_NUMBERS))
        elif written is not None:
            texts.append(written["text"].of(str))
            labels.append(None)
        else:
            break
    rated = any(label is not None for label in labels)
    return [*([StepLabels(problem, tuple(texts), tuple(labels))] if rated else []), *alternatives]


def _math_shepherd(row: _Node) -> list[StepLabels]:
    text, labelled = row["input"].of(str), row["label"].of(str)
    pieces = text.split(_SHEPHERD_MARKER)
    labels, place = [], 0
    for number, piece in enumerate(pieces[:-1]):
        place += len(piece)
        sign = labelled[place : place + 1]
        if labelled[place - len(piece) : place] != piece or sign not in ("+", "-"):
            raise row["label"].error(f"should repeat 'input' with + or - where marker {number + 1} stands")
        labels.append(_SIGNS[sign])
        place += 1
    if not labels:
        raise row["input"].error(f"should hold the marker {_SHEPHERD_MARKER!r}")
    # In some rows the first marker stands in the problem, where it judges nothing.
    first = next((number for number, piece in enumerate(pieces) if _FIRST_STEP.search(piece)), None)
    if first is None:
        # A few solutions do not count their steps; their problems end with a question.
        first, start = 0, pieces[0].rfind("?") + 1
        if not start:
            raise row["input"].error("should hold 'Step 1:', or a question mark before the first step")
    else:
        *_, start = (found.start() for found in _FIRST_STEP.finditer(pieces[first]))
    problem = "".join(pieces[:first]) + pieces[first][:start]
    steps = [pieces[first][start:], *pieces[first + 1 :]]
    judged: list[int | None] = [*labels[first:], None]
    if not steps[-1].strip():
        del steps[-1], judged[-1]
    return [StepLabels(problem.strip(), tuple(step.strip() for step in steps), tuple(judged))]


def _processbench(row: _Node) -> list[StepLabels]:
    steps, label, name = row["steps"].texts(), row["label"].of(int), row.get("id")
    if not -1 <= label < len(steps):
        raise row["label"].error(f"should be -1 or the index of one of {len(steps)} steps")
    labels: tuple[int | None, ...] = (RIGHT,) * len(steps)
    if label >= 0:
        labels = (*labels[:label], WRONG, *(None for _ in steps[label + 1 :]))
    return [StepLabels(row["problem"].of(str), steps, labels, name=name.of(str) if name else "")]


def _agentprocessbench(row: _Node) -> list[StepLabels]:
    messages, judged = row["messages"].items(), row["step_labels"].of(dict)
    steps: list[str] = []
    labels: list[int | None] = []
    observations: list[str] = []
    seen: list[str] = []
    asked = False
    for number, message in enumerate(messages):
        role = message["role"].of(str)
        if role == "assistant":
            label = row["step_labels"].get(str(number))
            steps.append(_spoken(message))
            labels.append(label.label(_NUMBERS) if label else None)
            observations.append("\n".join(seen))
            seen = []
        elif role == "user" and not asked:
            asked = True  # The question, which is the input.
        elif role != "system":
            seen.append(message["content"].of(str))
    if strange := set(judged) - {str(n) for n, each in enumerate(messages) if each["role"].value == "assistant"}:
        raise row["step_labels"].error(f"should judge assistant messages, and {min(strange)!r} is none")
    return [StepLabels(row["question"].of(str), tuple(steps), tuple(labels), tuple(observations))]


def _spoken(message: _Node) -> str:
    """What an assistant wrote, its tool calls as JSON with a line each."""
    content, calls = message.get("content"), message.get("tool_calls")
    lines = [content.of(str)] if content and content.value else []
    for call in calls.items() if calls else []:
        function = call["function"]
        lines.append(f"{function['name'].of(str)}({function['arguments'].value})")
    return "\n".join(lines)


FORMS: Final[Mapping[str, Callable[[_Node], list[StepLabels]]]] = {
    "steps": _own,
    "prm800k": _prm800k,
    "math_shepherd": _math_shepherd,
    "processbench": _processbench,
    "agentprocessbench": _agentprocessbench,
}
"""Forms of files by name."""
_FIELDS: Final = {
    "steps": {"input", "value", "label"},
    "prm800k": {"question", "label"},
    "agentprocessbench": {"messages", "step_labels", "question"},
    "processbench": {"problem", "steps", "label"},
    "math_shepherd": {"input", "label"},
}
"""What tells the forms apart, the more demanding first."""
