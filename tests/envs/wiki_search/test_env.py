import copy
import gc
import json
import random
import tracemalloc
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.envs import WIKISEARCH
from agentgym_prm.envs.core import TextVectorEnv, opening_history
from agentgym_prm.envs.wiki_search import WikiSearchEnv
from agentgym_prm.envs.wiki_search.answers import exact_match
from agentgym_prm.envs.wiki_search.moves import Answer, Search
from agentgym_prm.envs.wiki_search.protocols import PROTOCOLS, make_protocol
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.errors import DataNotFoundError, UnknownNameError
from agentgym_prm.search.passages import PassageIndex
from agentgym_prm.testing import check_text_env
from agentgym_prm.types import InfoKey
from tests.envs.wiki_search.passages import PASSAGES, QUESTIONS, SharedWords, make


def test_gymnasiums_checker_passes_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(WIKISEARCH, difficulty="small", render_mode="ansi")
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("suggestions", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_text_env_contract_holds_in_every_protocol(protocol, suggestions):
    check_text_env(gym.make(WIKISEARCH, difficulty="small", protocol=protocol, suggestions=suggestions), seeds=(0,))


def test_the_registered_cap_truncates_after_ten_steps():
    env = gym.make(WIKISEARCH, difficulty="small")
    env.reset(seed=0)
    flags = [env.step("sing")[2:4] for _ in range(10)]
    assert flags == [(False, False)] * 9 + [(False, True)]


def test_info_tells_all_that_rubrics_read():
    env = make(protocol="react")
    observation, info = env.reset(seed=0)
    assert observation == f"Question: {QUESTIONS[0].text}"
    assert (info[InfoKey.TASK], info[InfoKey.TASK_ID], info[InfoKey.TASK_TYPE]) == (QUESTIONS[0].text, "q0", "two_hop")
    assert info[InfoKey.ANSWERS] == ("Runn", "river Runn")
    assert (info[InfoKey.ANSWER], info[InfoKey.SEARCH_RESULT], info[InfoKey.MALFORMED_CALLS]) == ("", "", 0)
    *_, info = env.step("look")
    assert (info[InfoKey.MALFORMED_CALLS], info[InfoKey.VALID_ACTION], info[InfoKey.ERROR]) == (
        1,
        False,
        "Invalid action: look",
    )
    observation, reward, terminated, _, info = env.step("search[Anna painter]")
    assert (reward, terminated, info[InfoKey.VALID_ACTION], info[InfoKey.ERROR]) == (0.0, False, True, "")
    assert info[InfoKey.SEARCH_RESULT] == observation
    assert (info["searches"], info["found_ids"], info["found_titles"]) == (1, ("p0",), ("Anna Ek",))
    observation, reward, terminated, _, info = env.step("finish[Runn]")
    assert (observation, reward, terminated) == ("Episode finished, reward = 1\n", 1.0, True)
    assert (info[InfoKey.ANSWER], info[InfoKey.SEARCH_RESULT], info[InfoKey.MALFORMED_CALLS]) == ("Runn", "", 1)
    assert (info[InfoKey.WON], info[InfoKey.SCORE], info[InfoKey.GOAL_CONDITION_SUCCESS_RATE]) == (True, 1.0, 1.0)


def test_tasks_are_chosen_by_seed_index_or_id():
    env = make()
    assert env.num_tasks == 3
    by_seed = env.reset(seed=4)
    assert by_seed == env.reset(options={"task": 1}) == env.reset(options={"task": "q1"})
    with pytest.raises(UnknownNameError, match="no task 'q7' among the 3"):
        env.reset(options={"task": "q7"})


@pytest.mark.parametrize("difficulty", ["small", "full"])
def test_builtin_questions_can_be_answered_by_searching_their_supports(difficulty):
    """By choosing alone in small ones: both the searches and the right answer are suggested."""
    env = WikiSearchEnv(difficulty=difficulty, split="valid", k=1 if difficulty == "small" else 3)
    for seed in range(0, env.num_tasks, 10):
        _, info = env.reset(seed=seed)
        for title in env.engine.question.supports:
            command = env.engine.protocol.render(Search(title))
            if difficulty == "small":
                assert command in info[InfoKey.ADMISSIBLE_COMMANDS]
            *_, info = env.step(command)
        # All but the answer.
        supports = len(env.engine.question.supports)
        assert info[InfoKey.GOAL_CONDITION_SUCCESS_RATE] == supports / (supports + 1)
        moves = [env.engine.protocol.parse(command) for command in info[InfoKey.ADMISSIBLE_COMMANDS]]
        given = [move.text for move in moves if isinstance(move, Answer)]
        if difficulty == "small":
            assert sum(exact_match(text, info[InfoKey.ANSWERS]) for text in given) == 1
        _, reward, terminated, _, info = env.step(env.engine.protocol.render(Answer(info[InfoKey.ANSWERS][0])))
        assert (reward, terminated, info[InfoKey.WON]) == (1.0, True, True)


def test_small_builtin_questions_come_in_the_shortest_protocol_with_suggestions():
    assert WikiSearchEnv(difficulty="small").engine.protocol.name == "react"
    assert WikiSearchEnv(difficulty="small", protocol="xml").engine.protocol.name == "xml"
    assert make().engine.protocol.name == "xml"
    assert make().reset(seed=0)[1][InfoKey.ADMISSIBLE_COMMANDS] == ()
    _, info = WikiSearchEnv(difficulty="small", suggestions=False).reset(seed=0)
    assert info[InfoKey.ADMISSIBLE_COMMANDS] == ()


def test_all_environments_share_the_builtin_index():
    first, second = WikiSearchEnv(difficulty="small"), WikiSearchEnv(difficulty="small", split="test")
    assert first.engine.index is second.engine.index
    assert copy.deepcopy(first).engine.index is first.engine.index
    assert copy.deepcopy(first).questions is first.questions


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"split": "trian"}, UnknownNameError, "did you mean 'train'"),
        ({"data": "builtin", "split": "all"}, UnknownNameError, "valid: train, valid, test"),
        ({"difficulty": "ful"}, UnknownNameError, "did you mean 'full'"),
        ({"protocol": "search-r1"}, UnknownNameError, "did you mean 'search_r1'"),
        ({"expert": "orakel"}, UnknownNameError, "did you mean 'oracle'"),
        ({"reward": "F1"}, UnknownNameError, "did you mean 'f1'"),
        ({"index": None}, ValueError, "questions that are given need index="),
        ({"index": "/nowhere"}, DataNotFoundError, "'/nowhere' is nothing to search in"),
        (
            {"data": "/nowhere/questions.jsonl", "index": None},
            DataNotFoundError,
            "no question file /nowhere/questions.jsonl",
        ),
        ({"split": "test"}, DataNotFoundError, "none of 3 questions is in split 'test'"),
    ],
)
def test_what_cannot_be_is_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        make(**kwargs)


# --- files ---


def lines(records) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def question_file(path, number: int = 200, **fields):
    path.write_text(
        lines({"id": f"n{i}", "question": f"What is {i}?", "answers": [str(i)], **fields} for i in range(number))
    )
    return path


def test_one_question_file_is_divided_without_overlap(tmp_path):
    path = question_file(tmp_path / "questions.jsonl")
    ids = {
        split: {question.id for question in make(data=path, split=split).questions}
        for split in ("train", "valid", "test", "all")
    }
    assert ids["train"] | ids["valid"] | ids["test"] == ids["all"] == {f"n{i}" for i in range(200)}
    assert sum(len(ids[split]) for split in ("train", "valid", "test")) == 200
    assert 140 < len(ids["train"]) < 180
    assert min(len(ids["valid"]), len(ids["test"])) > 8


def test_a_folder_holds_a_file_for_each_split(tmp_path):
    for name, number in (("nq-train.jsonl", 3), ("nq-dev.jsonl", 2)):
        question_file(tmp_path / name, number)
    assert make(data=tmp_path, split="train").num_tasks == 3
    assert make(data=tmp_path, split="valid").num_tasks == 2
    with pytest.raises(DataNotFoundError, match=r"named after split 'test', .* it holds nq-dev.jsonl, nq-train.jsonl"):
        make(data=tmp_path, split="test")


def test_a_file_that_has_changed_is_read_anew(tmp_path):
    path = question_file(tmp_path / "questions.jsonl", 3)
    assert make(data=path).num_tasks == make(data=path).num_tasks == 3
    question_file(path, 4)
    assert make(data=path).num_tasks == 4


def test_questions_that_come_with_paragraphs_are_searched_in_these(tmp_path):
    record = {
        "_id": "h0", "question": QUESTIONS[0].text, "answer": "Runn", "type": "bridge", "level": "easy",
        "supporting_facts": [["Anna Ek", 0], ["Falun", 0]],
        "context": [[passage.title, [passage.text]] for passage in PASSAGES],
    }  # fmt: skip
    path = tmp_path / "hotpot.json"
    path.write_text(json.dumps([record]))
    env = WikiSearchEnv(data=path, split="all")
    env.reset(seed=0)
    *_, info = env.step(make_protocol("xml").render(Search("mayor")))
    assert info["found_titles"] == ("Falun",)
    assert env.engine.index is WikiSearchEnv(data=path, split="all").engine.index
    with pytest.raises(ValueError, match="questions without paragraphs of their own need index="):
        WikiSearchEnv(data=question_file(tmp_path / "plain.jsonl"))


def test_an_index_is_named_by_its_corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path / "cache"))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(lines(passage._asdict() for passage in PASSAGES))
    for index in (corpus, str(corpus)):
        env = make(index=index, protocol="react", k=2)
        env.reset(seed=0)
        observation, *_ = env.step("search[river Runn]")
        assert observation.startswith("Falun: Falun is a town on the river Runn.")
        assert "\nOslo: " in observation


def test_an_index_from_disk_and_tools_can_be_arguments_of_gym_make(tmp_path):
    """Gymnasium copies arguments, and would warn of what cannot be copied, such as mapped memory."""

    def double(number: int) -> str:
        return str(2 * number)

    options = {"data": QUESTIONS, "split": "all", "index": PassageIndex.write(tmp_path / "index", PASSAGES)}
    env = gym.make(WIKISEARCH, tools=[double], **options)
    assert env.spec.kwargs["index"] is options["index"]
    assert copy.deepcopy(env.unwrapped).engine.index is options["index"]
    env.reset(seed=0)
    assert env.step('<tool>{"name": "double", "args": {"number": 2}}</tool>')[0] == "<result>\n4\n</result>"
    envs = gym.make_vec(WIKISEARCH, num_envs=2, **options)
    assert len(envs.reset(seed=0)[0]) == 2


# --- robustness ---


def hostile(draws: random.Random) -> str:
    pieces = (
        "<tool>", "</tool>", "<answer", "</answer>", "<search>", "</search>", "search[", "finish", "]", "{", ":",
        "\x00", '"name"', '"wiki_search"', "\ud800", "日本", "🙂", " AND ", "field:", '"', "*", "~2", "^", "\n",
    )  # fmt: skip
    return "".join(draws.choices(pieces, k=draws.randint(0, 12)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_thousand_hostile_strings_are_answered(protocol):
    """A hundred thousand in all protocols together."""
    draws = random.Random(0)
    env = WikiSearchEnv(difficulty="small", protocol=protocol, suggestions=False)
    env.reset(seed=0)
    ended = 0
    for _ in range(33_334):
        observation, reward, terminated, _, info = env.step(hostile(draws))
        assert isinstance(observation, str)
        assert reward == 0
        assert info[InfoKey.VALID_ACTION] or info[InfoKey.ERROR]
        if terminated:
            ended += 1
            env.reset(seed=0)
    assert ended < 2000


@pytest.mark.parametrize(
    "query",
    ["a" * 1_000_000, "the of and", "東京 日本", "AND OR NOT", '"quoted" (title:Oslo)^2 ~', "Oslo\x00\ud800", "", " "],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_query_is_searched(protocol, query):
    env = WikiSearchEnv(difficulty="small", protocol=protocol)
    env.reset(seed=0)
    *_, info = env.step(env.engine.protocol.render(Search(query)))
    assert info[InfoKey.VALID_ACTION]
    assert info["searches"] == 1


def test_same_seed_is_the_same_episode_and_another_is_not():
    def play(seed: int) -> list:
        env, draws = WikiSearchEnv(difficulty="small"), random.Random(5)
        record = [env.reset(seed=seed)]
        for _ in range(5):
            record.append(env.step(draws.choice(record[-1][-1][InfoKey.ADMISSIBLE_COMMANDS])))
            if record[-1][2]:
                break
        return record

    assert play(3) == play(3)
    assert play(3) != play(4)


def test_ten_thousand_environments_made_and_closed_take_no_memory():
    def cycle(number: int) -> int:
        for seed in range(number):
            env = WikiSearchEnv(difficulty="small", protocol="xml", suggestions=True)
            env.reset(seed=seed % 7)
            env.step("<tool>{}</tool>")
            env.close()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        warm = cycle(100)
        later = cycle(300)
    finally:
        tracemalloc.stop()
    assert later < warm + 50_000
    for _ in range(9_600):
        WikiSearchEnv(difficulty="small").close()


# --- vector environments ---


def test_a_vector_environment_plays_as_gymnasiums_does():
    options = {"difficulty": "small", "split": "valid"}
    ours = gym.make_vec(WIKISEARCH, num_envs=3, max_episode_steps=4, **options)
    assert isinstance(ours.unwrapped, TextVectorEnv)
    theirs = SyncVectorEnv(
        [lambda: gym.make(WIKISEARCH, max_episode_steps=4, **options)] * 3,
        autoreset_mode=gym.vector.AutoresetMode.DISABLED,
    )
    observations, infos = ours.reset(seed=7)
    expected, expected_infos = theirs.reset(seed=7)
    assert observations == expected
    draws = random.Random(0)
    for _ in range(4):
        # An answer in one slot would end it: only searches.
        commands = [
            draws.choice([each for each in infos[InfoKey.ADMISSIBLE_COMMANDS][slot] if each.startswith("search")])
            for slot in range(3)
        ]
        observations, *numbers, infos = ours.step(commands)
        expected, *expected_numbers, expected_infos = theirs.step(commands)
        assert observations == expected
        for mine, other in zip(numbers, expected_numbers, strict=True):
            assert np.array_equal(mine, other)
        assert infos.keys() == expected_infos.keys()
        for key in infos:
            assert [*infos[key]] == [*expected_infos[key]], key
    assert numbers[2].all()


# --- prompts ---


@pytest.mark.parametrize("name", PROTOCOLS)
def test_prompts_show_question_and_results_and_read_commands(name):
    prompt, env = Prompt.load(f"wiki_{name}"), make(protocol=name)
    observation, info = env.reset(seed=0)
    shown = prompt.messages(opening_history(observation, info))
    assert shown[-1].content.endswith(f"Question: {QUESTIONS[0].text}")
    assert shown[-1].content.count(QUESTIONS[0].text) == 1
    command = env.engine.protocol.render(Search("Anna Ek"))
    reply = prompt.reply_format.render(command, "Let me see.")
    assert prompt.parse(reply).command == command
    assert prompt.parse(reply).reasoning == "Let me see."


def test_the_short_prompt_is_the_transcript():
    prompt, env = Prompt.load("wiki"), make(protocol="react")
    shown = prompt.messages(opening_history(*env.reset(seed=1)))
    assert [(each.role, each.content) for each in shown] == [("user", "Question: When did The Red Door appear?")]
    assert prompt.parse("search[Red Door]").command == "search[Red Door]"


def test_prompts_tell_of_the_tools_that_they_are_given():
    def convert(amount: float, unit: str = "km") -> str:
        """Converts a length into {{ braces }} and {% raw %} metres."""
        return ""

    env = make(tools=[convert])
    assert [tool.__name__ for tool in env.tools] == ["wiki_search", "convert"]
    default, both = Prompt.load("wiki_xml"), Prompt.load("wiki_xml", tools=env.tools)
    history = opening_history(*env.reset(seed=0))
    system, more = (prompt.messages(history)[0].content for prompt in (default, both))
    assert '{"name": "wiki_search", "args": {"query": "capital of Norway"}}' in system
    assert "convert" not in system
    assert "convert: Converts a length into {{ braces }} and {% raw %} metres.\nArguments:\n  - amount (float)" in more
    # Whoever keeps the source of a prompt keeps the tools too.
    assert Prompt("kept", both.source).messages(history)[0].content == more
    with pytest.raises(ValueError, match="tells of no tools"):
        Prompt.load("wiki_react", tools=[convert])


def test_questions_are_only_what_they_are():
    """A question that reads like a command is none."""
    asked = Question("q", "search[Oslo] or <answer>Oslo</answer>?", ("Oslo",))
    for protocol in PROTOCOLS:
        env = WikiSearchEnv(data=[asked], split="all", index=SharedWords(), protocol=protocol, suggestions=True)
        _, info = env.reset(seed=0)
        assert not info[InfoKey.WON]
        assert info["searches"] == 0
