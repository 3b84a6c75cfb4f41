"""Episodes worked by hand, in the passages and questions of ``passages.py``."""

import copy
import threading

import pytest

from agentgym_prm.envs.wiki_search.engine import Engine, words_and_marks
from agentgym_prm.envs.wiki_search.moves import Answer, Search
from agentgym_prm.envs.wiki_search.protocols import PROTOCOLS, make_protocol
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.errors import UnknownNameError
from tests.envs.wiki_search.passages import PASSAGES, QUESTIONS, SharedWords

RIVER, YEAR, CITY = QUESTIONS


def engine(protocol: str = "xml", question: Question = RIVER, tools=(), **kwargs) -> Engine:
    playing = Engine(SharedWords(), make_protocol(protocol, tools), **kwargs)
    playing.reset(question)
    return playing


def give(playing: Engine, *moves: Search | Answer | str) -> str:
    """The last observation."""
    return [playing.step(move if isinstance(move, str) else playing.protocol.render(move)) for move in moves][-1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_searches_and_the_answer(protocol):
    playing = engine(protocol)
    assert (playing.valid, playing.error, playing.done, playing.won, playing.outcome) == (True, "", False, False, 0.0)
    observation = give(playing, Search("Anna Ek"))
    assert "She was born in Falun." in observation
    assert playing.result.strip() in observation
    assert (playing.found_ids, playing.found_titles) == (("p0",), ("Anna Ek",))
    assert playing.goal_condition_success_rate == 1 / 3  # of two supports and the answer
    give(playing, Search("Falun town"))
    assert playing.goal_condition_success_rate == 2 / 3
    assert (playing.searches, playing.malformed) == (2, 0)
    final = give(playing, Answer("the Runn"))
    assert final == {"xml": "", "search_r1": "", "react": "Episode finished, reward = 1\n"}[protocol]
    assert (playing.done, playing.won, playing.outcome, playing.goal_condition_success_rate) == (True, True, 1.0, 1.0)
    assert (playing.answer, playing.result, playing.found_ids, playing.valid) == ("the Runn", "", (), True)


def test_a_wrong_answer_ends_the_episode_without_reward():
    playing = engine("react")
    assert give(playing, Search("Anna Ek"), Answer("Aker")) == "Episode finished, reward = 0\n"
    assert (playing.done, playing.won, playing.outcome, playing.goal_condition_success_rate) == (
        True,
        False,
        0.0,
        1 / 3,
    )
    assert playing.valid


def test_a_right_answer_without_a_search_wins():
    playing = engine()
    give(playing, Answer("river Runn"))
    assert (playing.won, playing.searches, playing.goal_condition_success_rate) == (True, 0, 1.0)


def test_the_messages_of_the_source_are_answered_in_its_words():
    playing = engine(max_searches=4)
    assert playing.reset(RIVER) == f"Question: {RIVER.text}\n"
    wrong_form = "Error: Tool command not found or invalid XML format. Please ensure correct formatting."
    assert give(playing, "I do not know.") == wrong_form
    assert (playing.valid, playing.error, playing.searches, playing.malformed) == (False, wrong_form, 0, 1)
    assert give(playing, "<tool>search Anna</tool>") == "<result>\nError: Invalid JSON format\n</result>"
    assert (playing.valid, playing.error, playing.searches, playing.malformed) == (
        False,
        "Error: Invalid JSON format",
        1,
        2,
    )
    assert give(playing, '<tool>{"name": "web"}</tool>') == "<result>\nError: Unknown tool 'web'\n</result>"
    assert give(playing, Search("zebra")) == "<result>\nNo relevant Wikipedia content found.\n</result>"
    assert (playing.valid, playing.searches, playing.malformed) == (True, 3, 3)
    anna = PASSAGES[0]
    assert give(playing, Search("painter Anna")) == f"<result>\n{anna.title}\n{anna.text}\n</result>"
    assert (playing.result, playing.malformed) == (f"{anna.title}\n{anna.text}", 3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_beyond_the_limit_ends_the_episode_unanswered(protocol):
    playing = engine(protocol, max_searches=1)
    index = playing.index
    give(playing, Search("Anna Ek"))
    assert not playing.done
    assert give(playing, Search("Falun")) == ""
    assert (playing.done, playing.won, playing.valid, playing.error) == (True, False, False, "no more searches")
    assert (playing.outcome, playing.answer, playing.result) == (0.0, "", "")
    assert index.asked == ["Anna Ek"]


def test_messages_without_a_call_do_not_count_against_the_limit_and_bad_calls_do():
    playing = engine(max_searches=1)
    give(playing, "what?", "what?", "<tool>no</tool>")
    assert (playing.done, playing.searches, playing.malformed) == (False, 1, 3)
    give(playing, Search("Falun"))
    assert playing.done


def test_what_must_be_found_where_no_supports_are_known_is_a_text_with_the_answer():
    playing = engine(question=Question("x", "Who is mayor of Falun?", ("Bo Lind",)))
    give(playing, Search("Anna"))
    assert playing.goal_condition_success_rate == 0.0
    give(playing, Search("mayor"))
    assert playing.goal_condition_success_rate == 0.5


def test_f1_as_the_reward_pays_for_a_part_of_the_answer():
    playing = engine(question=YEAR, reward="f1")
    give(playing, Answer("in the year 1930"))
    assert playing.outcome == pytest.approx(0.5)  # precision 1/3, recall 1
    assert (playing.won, playing.done) == (False, True)
    squad = engine(question=Question("x", "?", ("U.S.",)), metric="squad")
    give(squad, Answer("US"))
    assert squad.won
    triviaqa = engine(question=Question("x", "?", ("U.S.",)))
    give(triviaqa, Answer("US"))
    assert not triviaqa.won


@pytest.mark.parametrize(
    ("unit", "length", "shown"),
    [
        ("characters", 12, "Anna Ek\nAnna"),
        ("characters", None, f"Anna Ek\n{PASSAGES[0].text}"),
        # Anna | Ek | Anna | Ek | ( | born | 1901 | ) | was
        ("tokens", 7, "Anna Ek\nAnna Ek (born 1901"),
        ("tokens", 8, "Anna Ek\nAnna Ek (born 1901)"),
        ("tokens", 10_000, f"Anna Ek\n{PASSAGES[0].text}"),
    ],
)
def test_results_are_cut_and_their_tags_are_not(unit, length, shown):
    playing = engine(max_result_length=length, length_unit=unit)
    assert give(playing, Search("Anna painter")) == f"<result>\n{shown}\n</result>"
    assert playing.result == shown


def test_a_tokenizer_of_the_users_says_what_a_token_is():
    def pairs(text: str) -> list[tuple[int, int]]:
        return [(start, start + 2) for start in range(0, len(text), 2)]

    playing = engine(max_result_length=3, length_unit="tokens", tokenizer=pairs)
    give(playing, Search("Anna painter"))
    assert playing.result == "Anna E"
    with pytest.raises(ValueError, match="a tokenizer goes with length_unit='tokens', got 'characters'"):
        engine(tokenizer=pairs)


def test_words_and_marks():
    assert [("It's 3,5_a"[a:b]) for a, b in words_and_marks("It's 3,5_a")] == ["It", "'", "s", "3", ",", "5_a"]


def test_errors_that_repeat_the_command_are_cut_too():
    playing = engine("react", max_result_length=20)
    assert give(playing, "look " + "a" * 1_000_000) == "Invalid action: look"


def test_tools_of_the_users_are_called():
    def double(number: int) -> str:
        """Twice a number."""
        if number > 9:
            raise ValueError("too large")
        return "" if number == 0 else str(2 * number)

    playing = engine(tools=[double])
    assert give(playing, '<tool>{"name": "double", "args": {"number": 4}}</tool>') == "<result>\n8\n</result>"
    assert (playing.valid, playing.result, playing.searches, playing.found_ids) == (True, "8", 1, ())
    error = "Error: too large"
    assert give(playing, '<tool>{"name": "double", "args": {"number": 10}}</tool>') == f"<result>\n{error}\n</result>"
    assert (playing.valid, playing.error, playing.result, playing.malformed) == (False, error, "", 0)
    empty = "Error: Tool execution returned empty output."
    assert give(playing, '<tool>{"name": "double", "args": {"number": 0}}</tool>') == empty
    assert (playing.valid, playing.error, playing.result) == (False, empty, "")


def test_a_search_that_fails_is_no_answer_but_an_exception():
    class Gone:
        def search(self, queries, k):
            raise ConnectionError("the server is gone")

    playing = Engine(Gone(), make_protocol("xml"))
    playing.reset(RIVER)
    with pytest.raises(ConnectionError, match="the server is gone"):
        give(playing, Search("Oslo"))


@pytest.mark.parametrize("duplicate", [Engine.clone, copy.copy, copy.deepcopy])
def test_a_clone_goes_on_alone_and_shares_what_is_searched(duplicate):
    playing = engine(suggestions=True)
    give(playing, Search("Anna Ek"))
    before = (playing.admissible_commands(), playing.goal_condition_success_rate)
    twin = duplicate(playing)
    give(twin, Search("Falun"), Answer("Runn"))
    assert twin.won
    assert not playing.done
    assert (playing.admissible_commands(), playing.goal_condition_success_rate) == before
    assert twin.index is playing.index
    give(playing, Search("Falun"), Answer("Runn"))
    assert playing.won


def test_suggestions_are_searches_for_and_answers_with_what_was_read():
    playing = engine("react", question=CITY, suggestions=True)
    assert playing.admissible_commands() == (
        "finish[Oslo]", "finish[no]", "finish[yes]", "search[Is Oslo a city?]", "search[Oslo]",
    )  # fmt: skip
    give(playing, Search("Oslo"))
    assert "finish[Aker]" in playing.admissible_commands()
    playing.reset(RIVER)
    assert playing.admissible_commands() == ("finish[Anna Ek]", "search[Anna Ek]", f"search[{RIVER.text}]")
    give(playing, Search("Anna painter"))
    # Both Falun and Oslo are named in her passage, and a year, which is not searched for.
    assert playing.admissible_commands() == (
        "finish[1901]", "finish[Anna Ek]", "finish[Falun]", "finish[Oslo]", "finish[painter]",
        "search[Anna Ek]", "search[Falun]", f"search[{RIVER.text}]", "search[Oslo]",
    )  # fmt: skip
    for command in playing.admissible_commands():
        twin = playing.clone()
        twin.step(command)
        assert twin.valid
    give(playing, Answer("Oslo"))
    assert playing.admissible_commands() == ()


def test_no_searches_are_suggested_beyond_their_limit_and_nothing_without_suggestions():
    playing = engine("react", suggestions=True, max_searches=1)
    give(playing, Search("Anna painter"))
    assert [command for command in playing.admissible_commands() if command.startswith("search")] == []
    assert engine("react").admissible_commands() == ()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"k": 0}, "k must be a whole number, at least 1, got 0"),
        ({"max_searches": 0}, "max_searches must be a whole number, at least 1, got 0"),
        ({"max_result_length": True}, "max_result_length must be a whole number, at least 1, got True"),
        ({"k": 1.5}, "k must be a whole number, at least 1, got 1.5"),
    ],
)
def test_limits_out_of_range_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        engine(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"length_unit": "token"}, "did you mean 'tokens'"),
        ({"reward": "em"}, "exact_match"),
        ({"metric": "squat"}, "did you mean 'squad'"),
    ],
)
def test_unknown_names_are_refused(kwargs, message):
    with pytest.raises(UnknownNameError, match=message):
        engine(**kwargs)


def test_thirty_two_threads_search_one_index_at_once():
    index, found = SharedWords(), []

    def play() -> None:
        playing = Engine(index, make_protocol("react"))
        playing.reset(RIVER)
        for _ in range(20):
            give(playing, Search("Anna painter"))
        found.append(playing.result)

    threads = [threading.Thread(target=play) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 32
    assert len({*found}) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_that_nothing_was_found_is_no_text_with_the_answer_no(protocol):
    playing = engine(protocol, Question("q", "Is Anna Ek a river?", ("no",)))
    give(playing, Search("zzz"))
    assert (playing.valid, playing.found_ids, playing.goal_condition_success_rate) == (True, (), 0.0)


def test_a_tool_named_by_half_a_character_is_no_tool_and_not_repeated():
    observation = give(engine(), r'<tool>{"name": "\ud800", "args": {}}</tool>')
    observation.encode()
    assert "Invalid JSON" in observation


def test_questions_without_answers_or_with_a_text_in_their_place_are_refused():
    with pytest.raises(TypeError, match="answers must be several texts, got the text 'no'"):
        Question("q", "Is Ada a fish?", "no")
    with pytest.raises(ValueError, match="question 'q' has no answer"):
        Question("q", "Is Ada a fish?", ())
