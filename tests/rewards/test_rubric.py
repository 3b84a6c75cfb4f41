import numpy as np
import pytest

from agentgym_prm import Action, InfoKey, Rubric, Step, Trajectory, VectorStepReward, Weighted, collect, rewarded
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards import RUBRICS, Criterion, per_episode
from agentgym_prm.rewards.core import transitions_of
from agentgym_prm.rewards.rubric import normalised
from agentgym_prm.testing import ScriptedAgent, ScriptedEnv, check_reward_term

QUESTION = "Which band recorded the album Help! in 1965?"
ANSWERS = ["The Beatles", "Beatles"]
SEARCH = '<reasoning>Look it up.</reasoning>\n<tool>{"name": "wiki_search", "args": {"query": "Help!"}}</tool>'
FOUND = "<result>\nHelp! is the fifth album by the English rock band the Beatles.\n</result>"
ELSEWHERE = "<result>\nHelp (disambiguation)\n</result>"
RIGHT = "<reasoning>It says so.</reasoning>\n<answer>the beatles</answer>"


def episode(*turns: tuple[str, str], valid: bool = True, answers: list[str] = ANSWERS) -> Trajectory:
    """Messages and what the environment replied to each; the last one ends the episode."""
    observations = [QUESTION, *(reply for _, reply in turns)]
    steps = [
        Step(
            observations[turn],
            (),
            Action("(see reply)", reply=message),
            terminated=turn == len(turns) - 1,
            info={InfoKey.VALID_ACTION: valid, InfoKey.ANSWERS: answers},
        )
        for turn, (message, _) in enumerate(turns)
    ]
    return Trajectory(QUESTION, 0, tuple(steps), observations[-1], task_id="help")


def paid(name: str, trajectory: Trajectory) -> list[float]:
    return Rubric.of({name: 1.0}).rewards(transitions_of(trajectory)).tolist()


# --- questions with a search tool: transcripts worked by hand ---


def test_a_search_that_finds_and_a_right_answer():
    played = episode((SEARCH, FOUND), (RIGHT, ""))
    assert paid("tool_execution", played) == [0.2, 0.0]
    assert paid("answer_in_search_results", played) == [0.5, 0.0]
    assert paid("answer_present", played) == [0.0, 0.5]
    assert paid("exact_match", played) == [0.0, 1.0]
    assert paid("well_formed_messages", played) == [0.0, 0.2]
    assert paid("tag_usage", played) == [0.0, 0.2]


def test_a_search_that_finds_something_else_and_an_answer_in_a_sentence():
    sentence = "<reasoning>I know.</reasoning><answer>It was The Beatles, of course</answer>"
    played = episode((SEARCH, ELSEWHERE), (sentence, ""))
    assert paid("answer_in_search_results", played) == [0.0, 0.0]
    assert paid("answer_present", played) == [0.0, 0.5]
    assert paid("exact_match", played) == [0.0, 0.0]


def test_a_tool_call_with_an_error_is_not_paid():
    played = episode((SEARCH, "<result>\nError: unknown tool\n</result>"), (RIGHT, ""), valid=False)
    assert paid("tool_execution", played) == [0.0, 0.0]


def test_every_turn_is_judged_by_its_own_result():
    played = episode((SEARCH, ELSEWHERE), (SEARCH, FOUND), (SEARCH, ELSEWHERE), (RIGHT, ""))
    assert paid("tool_execution", played) == [0.2, 0.2, 0.2, 0.0]
    assert paid("answer_in_search_results", played) == [0.0, 0.5, 0.0, 0.0]


def test_an_answer_before_the_end_and_a_result_without_a_call_are_not_paid():
    played = episode((RIGHT, FOUND), ("Good bye.", ""))
    for name in ("answer_in_search_results", "answer_present", "exact_match", "tool_execution"):
        assert paid(name, played) == [0.0, 0.0]


def test_the_last_answer_of_the_message_counts():
    twice = "<answer>the Rolling Stones</answer> No: <answer>Beatles!</answer>"
    assert paid("exact_match", episode((twice, ""))) == [1.0]


def test_an_episode_cut_off_without_an_answer_is_not_paid():
    played = episode((SEARCH, FOUND))
    assert paid("exact_match", played) == [0.0]
    assert paid("well_formed_messages", played) == [0.2]


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
    ],
)
def test_the_form_of_one_message(message, formed, tags):
    played = episode((message, ""))
    assert paid("well_formed_messages", played) == [0.2 * formed]
    assert paid("tag_usage", played) == [0.2 * tags]


def test_the_form_of_an_episode_is_the_mean_over_its_messages():
    # Well formed: 1 of 2; tags: (1 + 1/2) / 2 = 3/4.
    played = episode((SEARCH, FOUND), ("<answer>x</answer>", ""))
    assert paid("well_formed_messages", played) == [0.0, 0.1]
    assert paid("tag_usage", played) == pytest.approx([0.0, 0.15], abs=1e-15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Beatles", "beatles"),
        ("  a  Hard\tDay's_Night!", "hard day s night"),
        ("Theatre, an anthem", "theatre anthem"),  # articles are words
        ("Rock‘n’Roll", "rock n roll"),
        ("É", "é"),
    ],
)
def test_normalisation_as_in_the_official_evaluation(text, expected):
    assert normalised(text) == expected


def test_words_occur_not_letters():
    # "us" stands in "because", and an article alone has no words that could occur.
    because = "<result>because</result>"
    assert paid("answer_in_search_results", episode((SEARCH, because), answers=["US"])) == [0.0]
    assert paid("answer_in_search_results", episode((SEARCH, "<result></result>"), answers=["The"])) == [0.0]
    assert paid("answer_in_search_results", episode((SEARCH, "<result>Us, because</result>"), answers=["US"])) == [0.5]


def test_a_task_that_is_no_question_is_an_error():
    (played,) = collect(ScriptedAgent(lambda history: "<answer>up</answer>"), scripted(cap=1), [1])
    with pytest.raises(ValueError, match=r"info\['answers'\], which task 'scripted-1' does not give"):
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
    played = episode((SEARCH, FOUND), (RIGHT, ""))
    terms = [Weighted(Rubric.of({"tool_execution": 1.0})), Weighted(Rubric.of({"exact_match": 1.0}), 2.0)]
    (once,) = rewarded([played], terms)
    assert [step.process_reward for step in once.steps] == [0.2, 2.0]
    assert once.steps[1].info["reward_terms"] == {"outcome": 0.0, "tool_execution": 0.0, "exact_match": 2.0}


def test_every_named_function_keeps_the_contract_of_a_term(walk):
    turns = [*transitions_of(episode((SEARCH, FOUND), (RIGHT, ""))), *transitions_of(episode((RIGHT, "")))]
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
