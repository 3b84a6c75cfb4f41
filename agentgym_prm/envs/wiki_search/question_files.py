"""Questions from the files in which the data sets share them.

Each row is known by its fields, in any file that ``search.rows`` reads (lines of JSON, one JSON document, Parquet):

======================  ====================================================================  =========================
data set                fields                                                                kind
======================  ====================================================================  =========================
TriviaQA                ``Question, QuestionId, Answer: {Value, Aliases, …}`` in ``Data``;    type of the answer
                        or in lower case, as on the hub
Natural Questions       ``question, answer: [...]``                                           –
KILT                    ``id, input, output: [{answer, provenance}]``                         –
HotpotQA                ``_id, question, answer, type, level, supporting_facts``              ``bridge/easy``
2WikiMultihopQA         the same, with ``evidences`` and without ``level``                    ``compositional``
MuSiQue                 ``id, question, answer, answer_aliases, paragraphs,                   ``2hop``, ``3hop``, …
                        question_decomposition``
FlashRAG, Search-R1     ``id, question, golden_answers``, also with HotpotQA's in             HotpotQA's, else
                        ``metadata``                                                          ``data_source``
any                     ``id, question, answers``, and ``kind``, ``supports`` if known        ``kind``
======================  ====================================================================  =========================

TriviaQA's answers are all that its own script accepts, with the normalised aliases: these are normalised otherwise than
SQuAD's script does it. Its evidence pages are no supports: they were found by searching. Questions of MuSiQue that are
marked as not answerable are left out: they ask what others ask, with the evidence taken away.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.errors import DataFormatError
from agentgym_prm.search.core import Passage
from agentgym_prm.search.rows import Row, read_rows

_HOPS: Final = re.compile(r"\dhop")
_EXPECTED: Final = (
    "expected a question of TriviaQA, Natural Questions, KILT, HotpotQA, 2WikiMultihopQA, MuSiQue or FlashRAG, or "
    "{id, question, answers}"
)


def read_questions(path: str | Path) -> tuple[Question, ...]:
    """The questions of a file, in its order.

    Args:
        path: The file; see the module for what it may hold. A question without an id is called by the file's name, up
            to the first dot, and its row. One that comes again, as TriviaQA's with other evidence, is read once.

    Raises:
        DataNotFoundError: There is no such file.
        DataFormatError: A row is no question, or has the id of a different one; names the row and the field.
        MissingDependencyError: It is Parquet, and polars is not installed.
    """
    questions: dict[str, Question] = {}
    places: dict[str, str] = {}
    for row in read_rows(path):
        if row.record.get("answerable") is False:
            continue
        try:
            question = _question(row.record, default=f"{row.path.name.partition('.')[0]}-{row.number}")
        except ValueError as error:
            raise row.error(error) from error
        first = questions.setdefault(question.id, question)
        place = places.setdefault(question.id, f"{row.unit} {row.number:,}")
        if first.text != question.text:
            raise row.error(f"the id {question.id!r} is that of another question, in {place}")
    if not questions:
        raise DataFormatError(f"{path} holds no question")
    return tuple(questions.values())


def context_passages(path: str | Path) -> Iterator[Passage]:
    """The paragraphs that HotpotQA, 2WikiMultihopQA and MuSiQue give with their questions, each once: a small corpus.

    Raises:
        DataNotFoundError: There is no such file.
        DataFormatError: A row has no paragraphs, or is damaged; names it.
        MissingDependencyError: It is Parquet, and polars is not installed.
    """
    seen: set[tuple[str, str]] = set()
    for row in read_rows(path):
        try:
            identity = _identity(row.record, str(row.number))
            for number, (title, text) in enumerate(_paragraphs(row)):
                if (title, text) not in seen:
                    seen.add((title, text))
                    yield Passage(f"{identity}-{number}", title, text)
        except ValueError as error:
            raise row.error(error) from error


def _question(record: Mapping[str, Any], default: str) -> Question:
    if "Answer" in record or isinstance(record.get("answer"), Mapping):
        return _triviaqa(record, default)
    if "input" in record:
        return _kilt(record, default)
    if "golden_answers" in record:
        return _flashrag(record, default)
    if "question_decomposition" in record or "paragraphs" in record:
        return _musique(record, default)
    if "answers" in record:
        supports = _strings(record.get("supports") or [], "supports")
        return _made(record, default, record["answers"], "answers", kind=record.get("kind") or "", supports=supports)
    if "answer" in record:
        # HotpotQA, 2WikiMultihopQA; Natural Questions have no more than question and answer.
        return _made(record, default, record["answer"], "answer", kind=_multihop_kind(record), supports=_facts(record))
    raise ValueError(f"there is no answer: {_EXPECTED}; the fields are {', '.join(map(str, record))}"[:400])


def _made(
    record: Mapping[str, Any],
    default: str,
    answers: Any,
    field: str,
    *,
    kind: Any = "",
    supports: Iterable[str] = (),
    asked: str = "question",
) -> Question:
    """A question of checked fields."""
    forms = dict.fromkeys(each for each in _strings(answers, field) if each.strip())
    if not forms:
        raise ValueError(f"{field!r} holds no answer")
    if not isinstance(kind, str):
        raise ValueError(f"the kind of a question must be a string, got {kind!r}"[:200])
    return Question(
        _identity(record, default), _string(record, asked), tuple(forms), kind, tuple(dict.fromkeys(supports))
    )


def _triviaqa(record: Mapping[str, Any], default: str) -> Question:
    field = "Answer" if "Answer" in record else "answer"
    answer = record[field]
    if not isinstance(answer, Mapping):
        raise ValueError(f"{field!r} must be an object, got {answer!r}"[:200])
    parts = {name.lower().replace("_", ""): value for name, value in answer.items()}
    if "value" not in parts:
        raise ValueError(f"{field!r} lacks 'Value'")
    forms = [*_strings(parts["value"], f"{field}.Value")]
    for name in ("aliases", "humananswers", "normalizedvalue", "normalizedaliases"):
        forms += _strings(parts.get(name) or [], f"{field}.{name}")
    asked = "Question" if "Question" in record else "question"
    return _made(record, default, forms, field, kind=parts.get("type") or "", asked=asked)


def _kilt(record: Mapping[str, Any], default: str) -> Question:
    """Each output is an answer, or where one stands; the first that tells where is enough."""
    outputs = record.get("output")
    if not isinstance(outputs, list) or not all(isinstance(output, Mapping) for output in outputs):
        raise ValueError("'output' must be a list of objects")
    answers = [output["answer"] for output in outputs if output.get("answer")]
    provenance: list[Any] = next((output["provenance"] for output in outputs if output.get("provenance")), [])
    titles = [place.get("title") for place in provenance if isinstance(place, Mapping)]
    supports = _strings([title for title in titles if title], "output.provenance.title")
    return _made(record, default, answers, "output.answer", supports=supports, asked="input")


def _flashrag(record: Mapping[str, Any], default: str) -> Question:
    """Search-R1 puts several data sets into one file, in which ids repeat: there the data set is part of the id."""
    metadata = record.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    source = record.get("data_source") or ""
    kind = _multihop_kind(metadata) or source
    question = _made(record, default, record["golden_answers"], "golden_answers", kind=kind, supports=_facts(metadata))
    if not source:
        return question
    return Question(f"{source}/{question.id}", question.text, question.answers, question.kind, question.supports)


def _musique(record: Mapping[str, Any], default: str) -> Question:
    answers = [record.get("answer"), *_strings(record.get("answer_aliases") or [], "answer_aliases")]
    paragraphs = _objects(record, "paragraphs")
    titles = {paragraph.get("idx", place): _string(paragraph, "title") for place, paragraph in enumerate(paragraphs)}
    steps = _objects(record, "question_decomposition") if record.get("question_decomposition") else []
    needed = [step.get("paragraph_support_idx") for step in steps]
    if not needed or any(index is None for index in needed):
        needed = [p.get("idx", place) for place, p in enumerate(paragraphs) if p.get("is_supporting")]
    lacking = [index for index in needed if index not in titles]
    if lacking:
        raise ValueError(f"'paragraph_support_idx' {lacking[0]!r} is that of no paragraph")
    hops = _HOPS.match(_identity(record, default))
    kind = hops[0] if hops else ""
    return _made(record, default, answers, "answer", kind=kind, supports=[titles[index] for index in needed])


def _multihop_kind(record: Mapping[str, Any]) -> str:
    return "/".join(record[name] for name in ("type", "level") if isinstance(record.get(name), str) and record[name])


def _facts(record: Mapping[str, Any]) -> Sequence[str]:
    """The titles of supporting facts: of pairs of title and sentence, or of two lists."""
    facts = record.get("supporting_facts")
    if facts is None:
        return ()
    if isinstance(facts, Mapping):
        return _strings(facts.get("title", ()), "supporting_facts.title")
    if not isinstance(facts, list) or not all(isinstance(fact, list) and len(fact) == 2 for fact in facts):
        raise ValueError("'supporting_facts' must be a list of [title, sentence], or {title: [...], sent_id: [...]}")
    return _strings([fact[0] for fact in facts], "supporting_facts")


def _paragraphs(row: Row) -> Iterator[tuple[str, str]]:
    """Title and text of each paragraph that a question comes with."""
    record = row.record
    if "paragraphs" in record:
        for paragraph in _objects(record, "paragraphs"):
            yield _string(paragraph, "title"), _string(paragraph, "paragraph_text")
        return
    context = record.get("context")
    if isinstance(context, Mapping):
        sentences = context.get("sentences", context.get("content"))
        titles = context.get("title")
        if not isinstance(sentences, list) or not isinstance(titles, list) or len(sentences) != len(titles):
            raise ValueError("'context' must hold 'title' and 'sentences', lists of the same length")
        context = [[title, some] for title, some in zip(titles, sentences, strict=True)]
    if not isinstance(context, list) or not all(isinstance(each, list) and len(each) == 2 for each in context):
        raise ValueError("there is no 'context' of paragraphs, [title, [sentences]] each, and no 'paragraphs'")
    for title, sentences in context:
        if not isinstance(title, str):
            raise ValueError(f"a title in 'context' must be a string, got {title!r}")
        yield title, _joined(_strings(sentences, "context"))


def _joined(sentences: Sequence[str]) -> str:
    """Sentences as a paragraph: HotpotQA's begin with their space, 2WikiMultihopQA's do not."""
    text = ""
    for sentence in sentences:
        text += sentence if not text or text[-1:].isspace() or sentence[:1].isspace() else f" {sentence}"
    return text.strip()


def _identity(record: Mapping[str, Any], default: str) -> str:
    for name in ("id", "_id", "QuestionId", "question_id"):
        identity = record.get(name)
        if isinstance(identity, int) and not isinstance(identity, bool):
            return str(identity)
        if identity is not None and (not isinstance(identity, str) or not identity):
            raise ValueError(f"{name!r} must be a string that is not empty, or a whole number, got {identity!r}"[:200])
        if identity is not None:
            return str(identity)
    return default


def _string(record: Mapping[str, Any], field: str) -> str:
    if field not in record:
        raise ValueError(f"there is no {field!r}: {_EXPECTED}")
    value = record[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{field!r} must be a string that is not empty, got {value!r}"[:200])
    return value


def _strings(values: Any, field: str) -> Sequence[str]:
    """A string, or a list of strings."""
    values = [values] if isinstance(values, str) else values
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{field!r} must be a string or a list of strings, got {values!r}"[:200])
    return values


def _objects(record: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    values = record.get(field)
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise ValueError(f"{field!r} must be a list of objects, got {values!r}"[:200])
    return values
