"""Claim: the oracle's searches find what supports answers; the reader answers most questions of the builtin worlds.

    python benchmarks/wiki_experts.py [--questions 500] [--max-searches 4] [--data FOLDER]

Builtin worlds of both difficulties, and 100 questions each of HotpotQA and MuSiQue (training sets) over about 10,000
passages of them and of others, if a folder has them (default: $AGENTGYM_PRM_TEST_DATA/wiki_search). With 1 and 3
passages a search: exact match and F1 of the answers (HotpotQA's evaluation), share of the supporting titles that the
searches found, mean number of searches; by kind of question. The reader was tuned on training questions of the builtin
worlds; on HotpotQA and MuSiQue what it does was looked at while it was written, so their rows are not held out.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from agentgym_prm.envs.wiki_search.answers import exact_match, f1
from agentgym_prm.envs.wiki_search.experts import OracleExpert
from agentgym_prm.envs.wiki_search.moves import Answer
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.envs.wiki_search.question_files import read_questions
from agentgym_prm.envs.wiki_search.reader import Reader
from agentgym_prm.envs.wiki_search.world import DIFFICULTIES, builtin_world
from agentgym_prm.search.core import PassageSearch
from agentgym_prm.search.opening import open_search
from agentgym_prm.search.passages import PassageIndex

RESULTS = (1, 3)
METRIC = "hotpotqa"
FILES = {"hotpotqa": "hotpotqa_train_100_distractor", "musique": "musique_train_100"}


def play(player: OracleExpert | Reader, search: PassageSearch, k: int) -> tuple[str, set[str], int]:
    """The answer, the titles found on the way, and in how many searches."""
    titles: set[str] = set()
    searches = 0
    while not isinstance(move := player.choose(), Answer):
        passages = [found.passage for found in search.search([move.query], k)[0]]
        player.observe(move, "\n\n".join(f"{passage.title}\n{passage.text}" for passage in passages))
        titles |= {passage.title for passage in passages}
        searches += 1
    return move.text, titles, searches


def report(name: str, questions: Sequence[Question], search: PassageSearch, max_searches: int) -> None:
    for k in RESULTS:
        for who in ("oracle", "reader"):
            rows: dict[str, list[tuple[float, ...]]] = {}
            for question in questions:
                player = OracleExpert(question) if who == "oracle" else Reader(question.text, max_searches=max_searches)
                answer, titles, searches = play(player, search, k)
                recall = sum(title in titles for title in question.supports) / len(question.supports)
                scores = [metric(answer, question.answers, METRIC) for metric in (exact_match, f1)]
                for kind in ("all", question.kind.partition("/")[0]):
                    rows.setdefault(kind, []).append((*scores, recall, searches))
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
        search = PassageIndex.build(world.passages)
        for split in options.splits:
            report(f"{difficulty} {split}", world.questions(split)[: options.questions], search, options.max_searches)
    if options.data.is_dir():
        corpus = open_search(str(options.data / "passages.jsonl.gz"))
        for name, file in FILES.items():
            report(name, read_questions(options.data / f"{file}.jsonl.gz"), corpus, options.max_searches)


if __name__ == "__main__":
    main()
