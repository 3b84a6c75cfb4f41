from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from agentgym_prm import (
    Action,
    History,
    InfoKey,
    Rubric,
    Step,
    Trajectory,
    VectorStepReward,
    Weighted,
    collect,
    rewarded,
)
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.envs.parsing import parse_reply
from agentgym_prm.envs.wiki_search.env import WikiSearchEnv
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards import RUBRICS, Criterion, per_episode
from agentgym_prm.rewards.core import transitions_of
from agentgym_prm.search.core import Found, Passage
from agentgym_prm.testing import ScriptedAgent, ScriptedEnv, check_reward_term

QUESTION = "Which band recorded the album Help! in 1965?"
ANSWERS = ["The Beatles", "Beatles"]
SEARCH = '<reasoning>Look it up.</reasoning>\n<tool>{"name": "wiki_search", "args": {"query": "Help!"}}</tool>'
RIGHT = "<reasoning>It says so.</reasoning>\n<answer>the beatles</answer>"
MOVES = {
    "xml": (SEARCH, RIGHT),
    "react": ("Thought: Look it up.\nAction: search[Help!]", "Thought: It says so.\nAction: finish[the beatles]"),
    "search_r1": ("<think>Look it up.</think><search>Help!</search>", "<think>So.</think><answer>the beatles</answer>"),
}
FOUND = Passage("1", "Help!", "Help! is the fifth album by the English rock band the Beatles.")
ELSEWHERE = Passage("2", "Help (disambiguation)", "Help may be many things.")


class Shelf:
    """Brings the passages it was given one after the other, whatever is asked; none where they say ``None``."""

    def __init__(self, *passages: Passage | None) -> None:
        self.left = [*passages]

    def search(self, queries: Sequence[str], k: int) -> list[list[Found]]:
        passage = self.left.pop(0)
        return [[Found(passage, 1.0)] if passage else []]


def episode(
    *turns: str | tuple[str, Passage | None], protocol: str = "xml", answers=ANSWERS, cap: int = 10
) -> Trajectory:
    """What the environment makes of messages; a message of a search comes with the passage that it brings."""
    messages = [turn if isinstance(turn, str) else turn[0] for turn in turns]
    shelf = Shelf(*(turn[1] for turn in turns if not isinstance(turn, str)))
    question = Question("help", QUESTION, tuple(answers))
    envs = TextVectorEnv(
        partial(WikiSearchEnv, data=[question], split="all", index=shelf, protocol=protocol, max_searches=cap),
        max_episode_steps=len(messages),
    )
    reply_format = {"xml": "xml", "react": "thought_action", "search_r1": "search_r1"}[protocol]

    def act(history: History) -> Action:
        message = messages[len(history.steps)]
        return Action(parse_reply(message, reply_format).command, reply=message)

    (played,) = collect(Messages(act), envs, [0])
    assert len(played.steps) == len(messages)
    return played


class Messages(ScriptedAgent):
    def __init__(self, act: Callable[[History], Action]) -> None:
        super().__init__(lambda history: "")
        self._act = act

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[self._act(history)] * n for history in histories]


def paid(name: str, trajectory: Trajectory) -> list[float]:
    return Rubric.of({name: 1.0}).rewards(transitions_of(trajectory)).tolist()


# --- questions with a search tool: transcripts worked by hand ---


@pytest.mark.parametrize("protocol", MOVES)
def test_a_search_that_finds_and_a_right_answer(protocol):
    search, right = MOVES[protocol]
    played = episode((search, FOUND), right, protocol=protocol)
    assert paid("tool_execution", played) == [0.2, 0.0]
    assert paid("answer_in_search_results", played) == [0.5, 0.0]
    assert paid("answer_first_found", played) == [0.5, 0.0]
    assert paid("answer_present", played) == [0.0, 0.5]
    assert paid("exact_match", played) == [0.0, 1.0]
    assert paid("f1", played) == [0.0, 1.0]
    formed = 0.0 if protocol == "react" else 0.2  # which has no tags
    assert paid("well_formed_messages", played) == [0.0, formed]
    assert paid("tag_usage", played) == [0.0, formed]


@pytest.mark.parametrize("protocol", MOVES)
def test_a_search_that_finds_something_else_and_an_answer_in_a_sentence(protocol):
    search, right = MOVES[protocol]
    sentence = right.replace("the beatles", "It was The Beatles, of course")
    played = episode((search, ELSEWHERE), sentence, protocol=protocol)
    assert paid("tool_execution", played) == [0.2, 0.0]
    assert paid("answer_in_search_results", played) == [0.0, 0.0]
    assert paid("answer_present", played) == [0.0, 0.5]
    assert paid("exact_match", played) == [0.0, 0.0]
    assert paid("f1", played) == [0.0, pytest.approx(1 / 3)]  # 1 of 5 words without the article, of 1: 2/6


def test_a_call_that_cannot_be_run_is_not_paid_whatever_its_error_says():
    """The source pays for an answer that stands in an error, such as this one."""
    wrong = '<reasoning>Hm.</reasoning>\n<tool>{"name": "Beatles", "args": {"query": "Help!"}}</tool>'
    played = episode(wrong, RIGHT)
    assert played.steps[1].observation == "<result>\nError: Unknown tool 'Beatles'\n</result>"
    assert paid("tool_execution", played) == [0.0, 0.0]
    assert paid("answer_in_search_results", played) == [0.0, 0.0]
    # The form of the message is not at fault.
    assert paid("well_formed_messages", played) == [0.0, 0.2]


@pytest.mark.parametrize(
    "broken",
    [
        "<tool>Help!</tool>",
        '<tool>{"name": "wiki_search", "args": {"query": "Help!"}}',
        '{"name": "wiki_search", "args": {"query": "Help!"}}',
        '<reasoning><tool>{"name": "wiki_search"}</tool></reasoning>',
        "Beatles",
        "",
    ],
)
def test_malformed_messages_are_paid_nothing(broken):
    played = episode(broken, broken)
    for name in ("tool_execution", "answer_in_search_results", "answer_present", "exact_match", "f1"):
        assert paid(name, played) == [0.0, 0.0]


def test_a_search_that_finds_nothing_has_been_executed():
    played = episode((SEARCH, None), RIGHT)
    assert paid("tool_execution", played) == [0.2, 0.0]
    assert paid("answer_in_search_results", played) == [0.0, 0.0]


def test_every_turn_is_judged_by_its_own_result_and_the_first_find_can_be_paid_alone():
    played = episode((SEARCH, ELSEWHERE), (SEARCH, FOUND), (SEARCH, ELSEWHERE), (SEARCH, FOUND), RIGHT)
    assert paid("tool_execution", played) == [0.2, 0.2, 0.2, 0.2, 0.0]
    assert paid("answer_in_search_results", played) == [0.0, 0.5, 0.0, 0.5, 0.0]
    assert paid("answer_first_found", played) == [0.0, 0.5, 0.0, 0.0, 0.0]


def test_a_search_beyond_the_limit_is_not_paid_and_leaves_no_answer():
    played = episode((SEARCH, FOUND), SEARCH, cap=1)
    assert played.steps[-1].terminated
    assert paid("tool_execution", played) == [0.2, 0.0]
    for name in ("answer_present", "exact_match", "f1"):
        assert paid(name, played) == [0.0, 0.0]


def test_an_answer_without_a_search_is_paid_as_an_answer_alone():
    played = episode(RIGHT)
    assert [paid(name, played) for name in ("tool_execution", "answer_in_search_results")] == [[0.0], [0.0]]
    assert [paid(name, played) for name in ("answer_present", "exact_match")] == [[0.5], [1.0]]


def test_an_alias_with_accents_has_to_be_written_with_them():
    """Official normalisation leaves accents alone; that is what sets of aliases are for."""
    answers = ["São Tomé", "Sao Tome Island"]
    brought = Passage("1", "Gulf", "the island of SÃO TOMÉ, by night")
    played = episode((SEARCH, brought), "<answer>são tomé</answer>", answers=answers)
    assert paid("answer_in_search_results", played) == [0.5, 0.0]
    assert paid("exact_match", played) == [0.0, 1.0]
    plain = episode("<answer>Sao Tome</answer>", answers=answers)
    assert [paid("exact_match", plain), paid("answer_present", plain)] == [[0.0], [0.0]]
    assert paid("exact_match", episode("<answer>the Sao Tome Island!</answer>", answers=answers)) == [1.0]


def test_several_calls_in_one_message_are_the_first_one():
    played = episode((SEARCH + SEARCH, FOUND), RIGHT)
    assert paid("tool_execution", played) == [0.2, 0.0]
    assert played.steps[0].info["searches"] == 1
    # Neither is the form of such a message: 1 of 2 messages is well formed; tags 1/2 and 1, 3/4 of them.
    assert paid("well_formed_messages", played) == [0.0, 0.1]
    assert paid("tag_usage", played) == [0.0, pytest.approx(0.1)]  # no block occurs once in the first


def test_the_first_answer_of_the_message_counts_and_a_call_beside_it_does_not():
    twice = f"<answer>the Rolling Stones</answer> No: <answer>Beatles!</answer>{SEARCH}"
    played = episode(twice)
    assert paid("exact_match", played) == [0.0]
    assert paid("tool_execution", played) == [0.0]


def test_an_episode_cut_off_without_an_answer_is_not_paid():
    played = episode((SEARCH, FOUND))
    assert played.steps[-1].truncated
    assert paid("exact_match", played) == [0.0]
    assert paid("well_formed_messages", played) == [0.2]


def test_answers_are_paid_at_the_end_alone():
    """Where an environment lets an answer be taken back."""
    infos = [{InfoKey.ANSWERS: ANSWERS, InfoKey.ANSWER: answer} for answer in ("Beatles", "the Beatles")]
    steps = [Step("", (), Action(""), terminated=turn == 1, info=info) for turn, info in enumerate(infos)]
    played = Trajectory(QUESTION, 0, tuple(steps), "")
    assert [paid(name, played) for name in ("answer_present", "exact_match", "f1")] == [[0, 0.5], [0, 1], [0, 1]]


def test_episodes_without_what_a_rubric_reads_are_refused(walk):
    with pytest.raises(ValueError, match=r"reads info\['search_result'\], which task 'scripted-0' does not give"):
        paid("tool_execution", walk)


@pytest.mark.parametrize(
    ("message", "formed", "tags"),
    [
        (SEARCH, 1, 1),
        (RIGHT, 1, 1),
        (f"  {RIGHT}\n", 1, 1),
        ("Sure! " + RIGHT, 0, 1),  # text around it
        ("<answer>x</answer>", 0, 1 / 2),  # no reasoning
        ("<reasoning>x</reasoning>", 0, 1 / 2),  # nothing done
        (SEARCH + "<answer>x</answer>", 0, 1),  # both: each tag once, but not a message of one act
        ("<answer>x</answer><reasoning>y</reasoning>", 0, 1),  # the wrong way round
        ("<reasoning>x</reasoning><reasoning>y</reasoning><answer>z</answer>", 0, 1 / 2),  # reasoning twice
        ("<reasoning>x<answer>y</answer>", 0, 1 / 2),  # not closed
        ("</answer>y<answer>", 0, 0),  # closed before it is opened
        ("the beatles", 0, 0),
        ("<think>x</think><search>y</search>", 1, 1),
        ("<think>x</reasoning><search>y</search>", 0, 1 / 2),
    ],
)
def test_the_form_of_one_message(message, formed, tags):
    played = as_written(message)
    assert paid("well_formed_messages", played) == [0.2 * formed]
    assert paid("tag_usage", played) == [0.2 * tags]


@pytest.mark.parametrize(
    ("message", "form", "tags"),
    [
        (SEARCH, 1, 1),
        (RIGHT, 1, 1),
        # No reasoning: 0.2 for spacing, 0.2 for the end, 0.2 for one of two blocks.
        ("<answer>x</answer>", 0.6, 1),
        # Text around it: no beginning, no end.
        ("Sure! " + RIGHT + " Bye", 0.6, 1),
        # Two reasonings: each of its tags is one too many: (0 + 0 + 1 + 1) / 4.
        ("<reasoning>x</reasoning><reasoning>y</reasoning><answer>z</answer>", 1, 0.5),
        # Not closed: a block is touched though not whole; its tags (1 + 0) / 2 with (1 + 1) / 2: 3/4.
        ("<reasoning>x<answer>y</answer>", 1, 0.75),
        ("<reasoning>x", 0.4, 0.5),
        # Five times opened: 1 - 4 and 0, over two tags: below 0, which an episode is not paid.
        ("<tool><tool><tool><tool><tool>", 0.2, 0),
        ("the beatles", 0.2, 0),
    ],
)
def test_the_form_of_one_message_as_the_authors_code_rates_it(message, form, tags):
    played = as_written(message)
    assert paid("message_format", played) == [pytest.approx(0.2 * form, abs=1e-15)]
    assert paid("tag_counts", played) == [pytest.approx(0.2 * tags, abs=1e-15)]


def as_written(*messages: str) -> Trajectory:
    """An episode of which only the messages matter."""
    last = len(messages) - 1
    steps = [Step("", (), Action("", reply=message), terminated=turn == last) for turn, message in enumerate(messages)]
    return Trajectory(QUESTION, 0, tuple(steps), "")


def test_the_form_of_an_episode_is_the_mean_over_its_messages():
    # Well formed: 1 of 2; tags: (1 + 1/2) / 2 = 3/4.
    played = as_written(SEARCH, "<answer>x</answer>")
    assert paid("well_formed_messages", played) == [0.0, 0.1]
    assert paid("tag_usage", played) == pytest.approx([0.0, 0.15], abs=1e-15)


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("because", "US", 0.0),  # words occur, not letters
        ("", "The", 0.0),  # an article alone has no words that could occur
        ("Us, because", "US", 0.5),
    ],
)
def test_words_occur_not_letters(text, form, expected):
    played = episode((SEARCH, Passage("1", "Title", text)), answers=[form])
    assert paid("answer_in_search_results", played) == [expected]


def test_a_task_that_is_no_question_is_an_error():
    (played,) = collect(ScriptedAgent(lambda history: "<answer>up</answer>"), scripted(cap=1), [1])
    with pytest.raises(ValueError, match=r"info\['answer'\], which task 'scripted-1' does not give"):
        paid("exact_match", played)


# --- any text environment ---


def scripted(cap: int) -> TextVectorEnv:
    return TextVectorEnv(ScriptedEnv, 1, max_episode_steps=cap)


@pytest.fixture(scope="module")
def walk() -> Trajectory:
    commands = ["wrong", "wrong", "left", "wrong", "wrong", "right"]
    (played,) = collect(ScriptedAgent(lambda history: commands[len(history.steps)]), scripted(9), [0])
    return played


def test_valid_actions_are_those_that_were_executed(walk):
    assert paid("valid_action", walk) == [0, 0, 1, 0, 0, 1]


def test_a_repeated_command_is_one_given_at_the_same_observation_before(walk):
    # The fourth "wrong" is the first one after "left" changed what is seen.
    assert paid("repeated_command", walk) == [0, 1, 0, 0, 1, 0]


def test_every_step_has_its_price(walk):
    assert paid("step_price", walk) == [-1] * 6


def test_weights_multiply_and_criteria_add_up(walk):
    # 0.5 * valid - 2 * repeated: second step -2, third 0.5.
    rubric = Rubric.of({"valid_action": 0.5, "repeated_command": -2.0})
    assert rubric.rewards(transitions_of(walk)).tolist() == [0, -2, 0.5, 0, -2, 0.5]
    assert rubric.name == "rubric"
    assert Rubric.of({"valid_action": 0.5}).name == "valid_action"
    assert Rubric.of({"valid_action": 0.5}, name="grounding").name == "grounding"


def test_a_function_of_the_episode_is_paid_at_its_end_and_sees_all_of_it(walk):
    seen = []

    def brevity(trajectory: Trajectory) -> float:
        seen.append(trajectory)
        return 1 / len(trajectory.steps)

    rubric = Rubric(Criterion("brevity", per_episode(brevity), weight=3.0))
    assert rubric.rewards(transitions_of(walk)).tolist() == [0, 0, 0, 0, 0, 0.5]
    assert seen == [walk]
    # Also where it was cut off: 3 / 2.
    agent = ScriptedAgent(lambda history: "wrong")
    (cut,) = collect(agent, VectorStepReward(scripted(2), rubric), [0])
    assert [step.process_reward for step in cut.steps] == [0, 1.5]


def test_rubrics_work_as_terms_of_finished_trajectories():
    played = episode((SEARCH, FOUND), RIGHT)
    terms = [Weighted(Rubric.of({"tool_execution": 1.0})), Weighted(Rubric.of({"exact_match": 1.0}), 2.0)]
    (once,) = rewarded([played], terms)
    assert [step.process_reward for step in once.steps] == [0.2, 2.0]
    assert once.steps[1].info["reward_terms"] == {"outcome": 1.0, "tool_execution": 0.0, "exact_match": 2.0}


def test_every_named_function_keeps_the_contract_of_a_term(walk):
    turns = [*transitions_of(episode((SEARCH, FOUND), RIGHT)), *transitions_of(episode(RIGHT))]
    for name in RUBRICS:
        check_reward_term(Rubric.of({name: 1.0}), turns)
    check_reward_term(
        Rubric.of({"valid_action": 1.0, "step_price": 0.1, "repeated_command": 1.0}), transitions_of(walk)
    )
    assert np.array_equal(Rubric.of({"step_price": 1.0}).rewards([]), [])


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(UnknownNameError, match=r"unknown rubric 'valid_actoin' .did you mean 'valid_action'"):
        Rubric.of({"valid_actoin": 1.0})
    with pytest.raises(ValueError, match="at least one criterion"):
        Rubric()
    with pytest.raises(ValueError, match=r"no two of one name; got \['a', 'a'\]"):
        Rubric(Criterion("a", lambda turn: 0.0), Criterion("a", lambda turn: 1.0))
