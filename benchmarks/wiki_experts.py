"""Claim: the oracle's searches find what supports answers; the reader answers most questions of the builtin worlds.

    python benchmarks/wiki_experts.py [--questions 500] [--max-searches 4] [--data FOLDER]

Builtin worlds of both difficulties, and 100 questions each of HotpotQA and MuSiQue (training sets) over about 10,000
passages of them and of others, if a folder has them (default: $AGENTGYM_PRM_TEST_DATA/wiki_search). With 1 and 3
passages a search: exact match and F1 of the answers (SQuAD's normalisation), share of the supporting titles that the
searches found, mean number of searches; by kind of question. The reader was tuned on training questions of the builtin
worlds; on HotpotQA and MuSiQue what it does was looked at while it was written, so their rows are not held out.
"""

import argparse
import gzip
import json
import os
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agentgym_prm.envs.wiki_search.experts import OracleExpert
from agentgym_prm.envs.wiki_search.moves import Answer
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.envs.wiki_search.reader import Reader
from agentgym_prm.envs.wiki_search.world import DIFFICULTIES, builtin_world
from agentgym_prm.search import BM25Index
from agentgym_prm.search.core import Passage

RESULTS = (1, 3)


class Engine:
    """Passages by title and text."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        texts = [f"{passage.title} {passage.text}" for passage in passages]
        self._index = BM25Index.build(texts, names=[passage.id for passage in passages])

    def found(self, query: str, k: int) -> list[Passage]:
        return [self._passages[hit.document] for hit in self._index.search([query], k)[0]]


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def hotpotqa(folder: Path) -> list[Question]:
    return [
        Question(
            each["_id"],
            each["question"],
            (each["answer"],),
            each["type"],
            tuple(dict.fromkeys(title for title, _ in each["supporting_facts"])),
        )
        for each in lines(folder / "hotpotqa_train_100_distractor.jsonl.gz")
    ]


def musique(folder: Path) -> list[Question]:
    questions = []
    for each in lines(folder / "musique_train_100.jsonl.gz"):
        places = [step["paragraph_support_idx"] for step in each["question_decomposition"]]
        titles = {paragraph["idx"]: paragraph["title"] for paragraph in each["paragraphs"]}
        answers = (each["answer"], *each["answer_aliases"])
        supports = tuple(dict.fromkeys(titles[place] for place in places))
        questions.append(Question(each["id"], each["question"], answers, each["id"].split("__")[0], supports))
    return questions


def normalised(text: str) -> list[str]:
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def f1(answer: str, form: str) -> float:
    one, other = normalised(answer), normalised(form)
    shared = sum((Counter(one) & Counter(other)).values())
    if {"yes", "no"} & {*one, *other} and one != other:
        return 0.0
    return 2 * shared / (len(one) + len(other)) if shared else 0.0


def play(player: OracleExpert | Reader, engine: Engine, k: int) -> tuple[str, list[Passage], int]:
    """The answer, what was found on the way, and in how many searches."""
    found: list[Passage] = []
    searches = 0
    while not isinstance(move := player.choose(), Answer):
        passages = engine.found(move.query, k)
        player.observe(move, "\n\n".join(f"{passage.title}\n{passage.text}" for passage in passages))
        found += passages
        searches += 1
    return move.text, found, searches


def report(name: str, questions: Sequence[Question], engine: Engine, max_searches: int) -> None:
    for k in RESULTS:
        for who in ("oracle", "reader"):
            rows: dict[str, list[tuple[float, ...]]] = {}
            for question in questions:
                player = OracleExpert(question) if who == "oracle" else Reader(question.text, max_searches=max_searches)
                answer, found, searches = play(player, engine, k)
                exact = float(any(normalised(answer) == normalised(form) for form in question.answers))
                titles = {passage.title for passage in found}
                recall = sum(title in titles for title in question.supports) / len(question.supports)
                row = (exact, max(f1(answer, form) for form in question.answers), recall, searches)
                for kind in ("all", question.kind):
                    rows.setdefault(kind, []).append(row)
            for kind, values in sorted(rows.items(), key=lambda item: (item[0] != "all", item[0])):
                exact, score, recall, searches = (sum(column) / len(values) for column in zip(*values, strict=True))
                print(
                    f"{name:<14}{kind:<12}{len(values):>5}  {who:<8}{k:>2}{exact:>8.1%}{score:>8.1%}{recall:>9.1%}"
                    f"{searches:>10.2f}",
                    flush=True,
                )


def main() -> None:
    folder = Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "wiki_search"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=500, help="most questions of each row")
    parser.add_argument("--max-searches", type=int, default=4, help="searches of the reader")
    parser.add_argument("--splits", nargs="+", default=("valid", "test"), help="of the builtin worlds")
    parser.add_argument("--data", type=Path, default=folder, help="folder with the questions and passages of data sets")
    options = parser.parse_args()
    print(f"{'questions':<14}{'kind':<12}{'n':>5}  {'who':<8}{'k':>2}{'EM':>8}{'F1':>8}{'recall':>9}{'searches':>10}")
    for difficulty in DIFFICULTIES:
        world = builtin_world(difficulty)
        engine = Engine(world.passages)
        for split in options.splits:
            questions = world.questions(split)[: options.questions]
            report(f"{difficulty} {split}", questions, engine, options.max_searches)
    if options.data.is_dir():
        records = lines(options.data / "passages.jsonl.gz")
        engine = Engine([Passage(each["id"], each["title"], each["text"]) for each in records])
        for name, questions in (("hotpotqa", hotpotqa(options.data)), ("musique", musique(options.data))):
            report(name, questions, engine, options.max_searches)


if __name__ == "__main__":
    main()
