import pytest

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.envs.parsing import parse_reply
from agentgym_prm.envs.wiki_search.moves import Answer, Malformed, Search
from agentgym_prm.envs.wiki_search.protocols import PROTOCOLS, BadCall, Call, make_protocol, protocol_of
from agentgym_prm.envs.wiki_search.tools import documents
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.search.core import Found, Passage
from agentgym_prm.testing import HOSTILE_COMMANDS
from tests.live.wiki_search_parity import episodes

MOVES = (
    Search("Anna Ek"),
    Search("é 日本 \"quoted\" \\ 'n'"),
    Search("a </tool> b <tool>"),
    Answer("Runn"),
    Answer("3,000"),
)
FOUND = [
    Found(Passage("a", "Falun", "One. Two. Three.\n\nFour. Five. Six."), 1),
    Found(Passage("b", "Oslo", "A city"), 1),
]
REPLY_FORMATS = {"xml": "xml", "search_r1": "search_r1", "react": "thought_action"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_parsing_inverts_rendering(name):
    protocol = make_protocol(name)
    for move in MOVES:
        assert protocol.parse(protocol.render(move)) == move


def test_commands_read_as_their_sources_show_them():
    rendered = {
        name: [make_protocol(name).render(move) for move in (Search("Oslo"), Answer("no"))] for name in PROTOCOLS
    }
    assert rendered == {
        "xml": ['<tool>{"name": "wiki_search", "args": {"query": "Oslo"}}</tool>', "<answer>no</answer>"],
        "react": ["search[Oslo]", "finish[no]"],
        "search_r1": ["<search>Oslo</search>", "<answer>no</answer>"],
    }


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_message_means_what_the_command_means_that_its_reply_format_finds_in_it(name):
    protocol = make_protocol(name)
    messages = [text for each in episodes(400) if each["protocol"] == name for text in each["messages"]]
    if name == "react":
        messages = [f"Thought: so\nAction: {text.strip()}" for text in messages if "\n" not in text.strip()]
    meant = [protocol.parse(message) for message in messages]
    found = [protocol.parse(parse_reply(message, REPLY_FORMATS[name]).command) for message in messages]
    assert meant == found
    kinds = {type(move) for move in meant}
    assert {Search, Answer, Malformed} <= kinds


@pytest.mark.parametrize("name", PROTOCOLS)
def test_whole_messages_are_understood(name):
    protocol = make_protocol(name)
    for move in (Search("Oslo"), Answer("Runn")):
        reply = Prompt.load(f"wiki_{name}").reply_format.render(protocol.render(move), "Let me see.")
        assert protocol.parse(reply) == move
        assert reply != protocol.render(move)


@pytest.mark.parametrize(
    ("command", "move"),
    [
        ("Thought 2: Where?\nAction 2: Search[Falun]", Search("Falun")),
        ("Thought: finish[no]\nAction: search[a]\nAction: Finish[b]", Answer("b")),
        ("Thought: so\nAction:\n search[Falun]\nObservation: a town", Search("Falun")),
        ("Thought: so\nAction:", Malformed("Invalid action: ")),
        ("Search[Falun]", Search("Falun")),
        ("search[two\nlines]", Search("two\nlines")),
        ("search[a[b]]", Search("a[b]")),
        ("lookup[river]", Malformed("Invalid action: lookup[river]")),
        ("Look", Malformed("Invalid action: look")),
    ],
)
def test_actions_of_react(command, move):
    assert make_protocol("react").parse(command) == move


def test_results_as_each_protocol_shows_them():
    xml, react, search_r1 = (make_protocol(name) for name in ("xml", "react", "search_r1"))
    both = "Falun\nOne. Two. Three.\n\nFour. Five. Six.\n\nOslo\nA city"
    assert xml.result(xml.passages("x", FOUND)) == f"<result>\n{both}\n</result>"
    # The first five sentences of a page.
    assert react.passages("x", FOUND) == "Falun: One. Two. Three. Four. Five.\nOslo: A city."
    assert search_r1.result(search_r1.passages("x", FOUND)) == (
        "\n\n<information>Doc 1(Title: Falun) One. Two. Three.\n\nFour. Five. Six.\n"
        "Doc 2(Title: Oslo) A city</information>\n\n"
    )
    assert xml.passages("x", []) == "No relevant Wikipedia content found."
    assert react.passages("x", []) == "Could not find x. Similar: []."
    assert search_r1.result(search_r1.passages("x", [])) == "\n\n<information></information>\n\n"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_was_brought_can_be_read_from_the_observation(name):
    protocol = make_protocol(name)
    brought = protocol.brought(protocol.result(protocol.passages("x", FOUND)))
    if name == "react":
        assert brought == "Falun\nOne. Two. Three. Four. Five.\n\nOslo\nA city."
    else:
        assert brought == documents(FOUND)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("question", ["Who?", "Question: Who?", "", "\n"])
def test_a_protocol_is_known_by_its_opening(name, question):
    assert type(protocol_of(question, make_protocol(name).opening(question))) is PROTOCOLS[name]
    with pytest.raises(ValueError, match="no protocol opens with 'Hello'"):
        protocol_of(question, "Hello")


def test_a_tool_of_the_users_takes_the_place_of_the_search():
    def wiki_search(query: str, page: int = 1) -> str:
        return f"page {page}"

    command = '<tool>{"name": "wiki_search", "args": {"query": "Oslo", "page": 2}}</tool>'
    assert isinstance(make_protocol("xml").parse(command), BadCall)
    move = make_protocol("xml", [wiki_search]).parse(command)
    assert isinstance(move, Call)
    assert (move.tool.function, move.args) == (wiki_search, {"query": "Oslo", "page": 2})


def test_only_tool_calls_can_name_tools():
    with pytest.raises(
        ValueError, match="only protocol 'xml' can call other tools than the search, got 'react' with 1"
    ):
        make_protocol("react", [len])
    with pytest.raises(UnknownNameError, match="did you mean 'xml'"):
        make_protocol("xlm")


def test_a_query_that_is_no_text_is_refused_before_it_is_searched():
    move = make_protocol("xml").parse('<tool>{"name": "wiki_search", "args": {"query": ["Oslo"]}}</tool>')
    assert move == BadCall("Error: wiki_search() argument 'query' must be str, not list")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_hostile_commands_are_malformed(name):
    for command in HOSTILE_COMMANDS:
        assert isinstance(make_protocol(name).parse(command), Malformed)
