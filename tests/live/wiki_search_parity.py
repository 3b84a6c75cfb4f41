"""Sends odd messages to the originals of WikiSearch's protocols and to the native engine, and compares the answers.

    WIKI_SEARCH_ORIGINALS=.../folder python -m tests.live.wiki_search_parity [--episodes 3000] [--record]

Episodes are made of fragments of well-formed messages, put together at random, under different limits of calls; the
tools, the search among them, are functions of ours on both sides. Compared after every message: the answer, to the
letter, and whether the episode ended; in XML also what the originals' reward functions pay for the whole. Exit status 1
on any difference. ``--record`` keeps what the originals said, which ``make test`` replays without them.

What differs by decision is taken out beforehand: the module in Python's complaint about arguments that are no mapping,
the doubled full stop at the end of ReAct's observations, queries that are no text.
"""

import argparse
import json
import lzma
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentgym_prm.envs.wiki_search.answers import exact_match, f1, normalised
from agentgym_prm.envs.wiki_search.engine import Engine
from agentgym_prm.envs.wiki_search.protocols import make_protocol
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.envs.wiki_search.tools import documents
from tests.envs.wiki_search.passages import QUESTIONS, SharedWords
from tests.live.wiki_search_original import ReActOriginal, Reply, SearchR1Original, XMLOriginal, official_scores

RECORDED = Path(__file__).parents[2] / "tests/envs/wiki_search/recorded_replies.json.xz"
QUESTION = QUESTIONS[0]
_RECORDED_EPISODES = 400
_K = 2


# --- tools, the same on both sides ---


def wiki_search(query: str) -> str:
    """Searches the few passages of the tests."""
    return documents(SharedWords().search([query], _K)[0])


def repeat(text: str, times: int = 1, *, apart: str = "") -> str:
    """Repeats a text; zero times brings nothing, and a text of digits has to be written in letters."""
    if text.isdigit():
        raise ValueError(f"not in letters: {text}")
    return apart.join([text] * times)


def look_up(key: str) -> Any:
    """What a small table has for a key: a number, nothing, an empty text, or an error by its name."""
    return {"seven": 7, "none": None, "empty": "  \n", "error": "Error: so it says"}[key]


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(passage.title, passage.text) for passage, _ in SharedWords().search([query], _K)[0]]


# --- messages ---

_CALLS = (
    '{"name": "wiki_search", "args": {"query": "Anna Ek"}}',
    '{"name": "wiki_search", "args": {"query": "river"}}',
    '{"name": "wiki_search", "args": {"query": ""}}',
    '{"name": "wiki_search", "args": {"query": "zebra"}}',
    ' \n{"args": {"query": "Oslo"}, "name": "wiki_search", "more": 1}\t ',
    '{"name": "wiki_search", "args": {"q": "Anna"}}',
    '{"name": "wiki_search", "args": {"query": "Anna", "k": 3}}',
    '{"name": "wiki_search", "args": {}}',
    '{"name": "wiki_search"}',
    '{"name": "wiki_search", "args": null}',
    '{"name": "wiki_search", "args": ["Anna"]}',
    '{"name": "wiki_search", "args": "Anna"}',
    '{"name": "wiki_search", "args": 5}',
    '{"name": "Wiki_search", "args": {"query": "Anna"}}',
    '{"name": "", "args": {"query": "Anna"}}',
    '{"name": null, "args": {"query": "Anna"}}',
    '{"name": 7}',
    '{"name": true}',
    '{"name": ["wiki_search"]}',
    '{"name": {"a": 1}}',
    '{"name": {}}',
    '{"args": {"query": "Anna"}}',
    '{"name": "wiki_search", "name": "nothing", "args": {"query": "a"}}',
    "{}",
    "[]",
    "null",
    "5",
    '"wiki_search"',
    "NaN",
    "wiki_search(Anna)",
    "{'name': 'wiki_search', 'args': {'query': 'Anna'}}",
    '{"name": "wiki_search", "args": {"query": "Anna"}} ',
    '{"name": "wiki_search", "args": {"query": "Anna"}',
    '{"name": "wiki_search", "args": {"query": "A\nB"}}',
    '{"name": "wiki_search", "args": {"query": "\\ud800 \\u00e9"}}',
    "1" * 5000,
    "[" * 100_000,
    '{"name": "repeat", "args": {"text": "ho", "times": 3, "apart": " "}}',
    '{"name": "repeat", "args": {"text": "ho", "times": 0}}',
    '{"name": "repeat", "args": {"text": "12"}}',
    '{"name": "repeat", "args": {"times": 2}}',
    '{"name": "repeat", "args": {"text": "a", "apart": "-", "self": 1}}',
    '{"name": "look_up", "args": {"key": "seven"}}',
    '{"name": "look_up", "args": {"key": "none"}}',
    '{"name": "look_up", "args": {"key": "empty"}}',
    '{"name": "look_up", "args": {"key": "error"}}',
    '{"name": "look_up", "args": {"key": "absent"}}',
    "",
    " \n ",
    "<tool>{}",
    "</answer>",
)
_ANSWERS = ("Runn", " the river Runn\n", "", " ", "<b>Oslo</b>", "Anna\nEk", "yes", "<answer>Oslo", "</tool>")
_XML = (
    "<reasoning>I wonder.</reasoning>", "<reasoning>\n…\n</reasoning>\n", "<reasoning>", "</reasoning>", "text", "\n",
    " ", "<tool>", "</tool>", "<answer>", "</answer>", "<Tool>", "< tool>", "<tool >", "<result>", "</result>",
    "é 日本 \x00",
)  # fmt: skip
_TAGS = (
    "<search>", "</search>", "<answer>", "</answer>", "<think>so</think>", "<information>", "</information>", "text",
    "\n", "<search>Anna Ek</search>", "<search> river\n</search>", "<search></search>", "<search>zebra</search>",
    "<Search>", "<answer>Runn</answer>", "<answer> </answer>", "<answer>a <search>Oslo</search></answer>",
)  # fmt: skip
_ACTIONS = (
    "search[Anna Ek]", "Search[river]", "search[]", "search[zebra]", "search[a[b]]", "search[Anna", "search Anna]",
    " search[Oslo]\n", "search[Anna\nEk]", "SEARCH[Oslo]", "look", "", " ", "]", "[", "searchOslo]", "finish",
    "finish[", "é[日本]", "search[Falun] and so on", "xsearch[Falun]",
)  # fmt: skip
_ENDS = ("finish[Runn]", "Finish[ the Runn ]", "finish[]", " finish[a]b]\n")


def xml_message(draws: random.Random) -> str:
    """A message of a call, of an answer, or of anything in any order."""
    kind = draws.random()
    thought = draws.choice(("<reasoning>I wonder.</reasoning>\n", "<reasoning>\nSo.\n</reasoning>", "", "Well. "))
    if kind < 0.6:
        return f"{thought}<tool>{draws.choice(_CALLS)}</tool>" + draws.choice(("", "\n", " and so on"))
    if kind < 0.7:
        return f"{thought}<answer>{draws.choice(_ANSWERS)}</answer>" + draws.choice(("", "\n", " and so on"))
    return "".join(
        draws.choice((*_XML, draws.choice(_CALLS), draws.choice(_ANSWERS))) for _ in range(draws.randint(0, 8))
    )


def tags_message(draws: random.Random) -> str:
    """Fragments of Search-R1's messages in any order."""
    return "".join(draws.choice(_TAGS) for _ in range(draws.randint(0, 5)))


def action(draws: random.Random) -> str:
    """An action of ReAct's, more or less."""
    return draws.choice(_ACTIONS if draws.random() < 0.9 else _ENDS)


_MESSAGES = {"xml": xml_message, "search_r1": tags_message, "react": action}


def episodes(number: int) -> Iterator[dict[str, Any]]:
    """Protocol, limit of calls and messages of each episode; the same ones every time."""
    for index in range(number):
        draws = random.Random(index)
        protocol = ("xml", "xml", "search_r1", "react")[index % 4]
        messages = [_MESSAGES[protocol](draws) for _ in range(6)]
        yield {"protocol": protocol, "max_searches": draws.choice((1, 2, 9)), "messages": messages}


# --- playing ---


def play_original(episode: Mapping[str, Any]) -> tuple[list[Reply], dict[str, float]]:
    """What the original says to each message up to the end, and what it pays for the whole."""
    make = {
        "xml": lambda: XMLOriginal((wiki_search, repeat, look_up), episode["max_searches"] + 1),
        "search_r1": lambda: SearchR1Original(_pairs),
        "react": lambda: ReActOriginal(_pairs),
    }
    original = make[episode["protocol"]]()
    replies = []
    for message in episode["messages"]:
        replies.append(Reply(*original.step(message)))
        if replies[-1].ended:
            break
    return replies, original.rewards(QUESTION.answers) if isinstance(original, XMLOriginal) else {}


def play_native(episode: Mapping[str, Any], question: Question = QUESTION) -> tuple[list[Reply], list[Engine]]:
    """The same in the engine, and its state after each message."""
    protocol = episode["protocol"]
    tools = (repeat, look_up) if protocol == "xml" else ()
    limit = episode["max_searches"] if protocol == "xml" else None
    engine = Engine(SharedWords(), make_protocol(protocol, tools), k=_K, max_searches=limit)
    engine.reset(question)
    replies, states = [], []
    for message in episode["messages"]:
        text = engine.step(message)
        replies.append(Reply(text, engine.done))
        states.append(engine.clone())
        if engine.done:
            break
    return replies, states


def comparable(protocol: str, reply: Sequence[Any]) -> tuple[str, bool]:
    """A reply without what differs by decision."""
    text, ended = reply
    if protocol == "xml":
        text = re.sub(r"[\w.]+\.(\w+\(\) argument after)", r"\1", text)
    if protocol == "react":
        # The outer environment of the original adds the reward, this inner one does not know it.
        text = re.sub(r"reward = \S+", "reward = ?", text).replace("..", ".")
    return text, ended


def differences(episode: Mapping[str, Any], replies: Sequence[Sequence[Any]], paid: Mapping[str, float]) -> list[str]:
    """What the engine does otherwise than the original did."""
    native, states = play_native(episode)
    protocol, found = episode["protocol"], []
    for turn, (theirs, ours) in enumerate(zip(replies, native, strict=False)):
        if comparable(protocol, theirs) != comparable(protocol, ours):
            found.append(f"{episode['messages'][turn]!r:.300}: {theirs!r:.300} in the original, {ours!r:.300} here")
            break
    if not found and len(replies) != len(native):
        found.append(f"{len(replies)} turns in the original, {len(native)} here: {episode}")
    if not found and paid:
        found += _paid_otherwise(episode, states, paid)
    return found


def _paid_otherwise(episode: Mapping[str, Any], states: list[Engine], paid: Mapping[str, float]) -> list[str]:
    from agentgym_prm.rewards.core import transitions_of
    from agentgym_prm.rewards.rubric import Rubric
    from agentgym_prm.types import Action, InfoKey, Step, Trajectory

    steps = [
        Step(
            "",
            (),
            Action(message),
            terminated=turn == len(states) - 1,
            info={
                InfoKey.VALID_ACTION: state.valid,
                InfoKey.SEARCH_RESULT: state.result,
                InfoKey.ANSWER: state.answer,
                InfoKey.ANSWERS: list(QUESTION.answers),
            },
        )
        for turn, (message, state) in enumerate(zip(episode["messages"], states, strict=False))
    ]
    turns = transitions_of(Trajectory("", 0, tuple(steps), ""))
    ours = {name: float(Rubric.of({name: 1.0}).rewards(turns).sum()) for name in paid}
    # There, the share of the calls that were answered; here, each turn by itself.
    answered = states[-1].searches - (states[-1].error == "no more searches")
    ours["tool_execution"] /= max(1, answered)
    compared = ["tool_execution", "message_format", "tag_counts"]
    return [
        f"{name}: {paid[name]} paid in the original, {ours[name]} here, for {episode}"
        for name in compared
        if abs(ours[name] - paid[name]) > 1e-12
    ]


_WORDS = (
    "the", "a", "An", "yes", "No", "noanswer", "Oslo", "oslo!", "U.S.", "u_s", "’", "‘a’", "´`", "-", "é", "É", "\t",
    "3,000", "", "a.", "İ", "ß", "日本", "。", "\u00a0", "$", "the-end", "'the'",
)  # fmt: skip


def metric_differences(number: int) -> list[str]:
    """Answers that are scored otherwise than by the official evaluations."""
    found, draws = [], random.Random(0)
    for _ in range(number):
        answer, form = (" ".join(draws.choices(_WORDS, k=draws.randint(0, 4))) for _ in range(2))
        if draws.random() < 0.3:
            form = answer.upper()
        for metric in ("triviaqa", "hotpotqa"):
            theirs = official_scores(metric, answer, form)
            ours = (normalised(answer, metric), exact_match(answer, [form], metric), f1(answer, [form], metric))
            if theirs != ours:
                found.append(f"{metric}, {answer!r} for {form!r}: {theirs} officially, {ours} here")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=3000)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    found, turns, recorded = [], 0, []
    for episode in episodes(arguments.episodes):
        replies, paid = play_original(episode)
        turns += len(replies)
        found += differences(episode, replies, paid)
        # How deep nesting may be, and what is said of it, depends on Python.
        if not any("[[" in message for message in episode["messages"]):
            recorded.append({**episode, "replies": replies, "paid": paid})
    scored = 10 * arguments.episodes
    found += metric_differences(scored)
    for difference in found[:20]:
        print(difference)
    print(f"{arguments.episodes} episodes, {turns} messages, {scored} scored answers, {len(found)} differences")
    if arguments.record and not found:
        with lzma.open(RECORDED, "wt", encoding="utf-8") as file:
            json.dump(recorded[:_RECORDED_EPISODES], file)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
