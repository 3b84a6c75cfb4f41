"""How questions, searches, results and answers are written: three ways, each as its source has it.

``xml`` (the default; github.com/SiliangZeng/Multi-Turn-RL-Agent): ``<tool>{"name": …, "args": {…}}</tool>`` and
``<answer>…</answer>``, results in ``<result>``. ``react`` (github.com/ysymyth/ReAct): ``search[…]``, ``finish[…]``.
``search_r1`` (github.com/PeterGriffinJin/Search-R1): ``<search>…</search>``, ``<answer>…</answer>``, results in
``<information>``. A command may be the element alone or the whole message of a model.

Texts and readings are the sources' but for these. ``xml``: an argument of the wrong type is refused before the call.
``react``: a search finds passages, not the page of a name, so titles stand before them and nothing similar is listed
where none matches; a last sentence has one full stop; ``lookup[…]`` and ``think[…]`` are not known; actions need no
number, and of a message the line after the last ``Action:`` counts. ``search_r1``: the opening is the question alone,
and no question mark is added.

Each protocol opens an episode in a way of its own, so an agent that reads texts can tell which one is spoken
(``protocol_of``).
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from agentgym_prm.envs.parsing import parse_bare, search_r1_element, xml_element
from agentgym_prm.envs.wiki_search.moves import Answer, Malformed, Search
from agentgym_prm.envs.wiki_search.tools import NoPassages, Tool, documents, wiki_search_over
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.search.core import Found

_DOCUMENT: Final = re.compile(r"^Doc \d+\(Title: (.*?)\) (.*?)(?=^Doc \d+\(Title: |\Z)", re.MULTILINE | re.DOTALL)
_ACTION_HEADING: Final = re.compile(r"^[ \t]*Action(?: \d+)?[ \t]*:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Call:
    """Call a tool other than the search; its arguments fit its signature."""

    tool: Tool
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadCall(Malformed):
    """A tool was called, but in a way that none can be called in."""


Move = Search | Answer | Call | Malformed


class Protocol(ABC):
    """One way to write what is said in an episode."""

    name: ClassVar[str]

    @abstractmethod
    def opening(self, question: str) -> str:
        """The first observation."""

    @abstractmethod
    def parse(self, command: str) -> Move:
        """What a command, or a whole message that holds one, asks for."""

    @abstractmethod
    def render(self, move: Search | Answer) -> str:
        """The command that asks for a move."""

    @abstractmethod
    def passages(self, query: str, found: Sequence[Found]) -> str:
        """What a search brought, as text."""

    def result(self, text: str) -> str:
        """The observation after a tool was called and brought ``text``, or was refused with it."""
        return text

    def brought(self, observation: str) -> str:
        """The passages in an observation, as ``tools.documents`` writes them: what readers read."""
        return observation

    def refusal(self, error: str) -> str:
        """The observation after a command that is none."""
        return error

    def closing(self, score: float) -> str:
        """The observation after the answer."""
        return ""


class XMLProtocol(Protocol):
    """Tool calls in JSON between tags.

    Of several elements the first of a kind counts, and an answer before a tool call; both also within reasoning.

    Args:
        tools: What can be called beside the search, or in its place if it has that name.
    """

    name = "xml"

    def __init__(self, tools: Sequence[Callable[..., Any]] = ()) -> None:
        # Only its signature is needed here: a search is a move of its own.
        self._search = Tool.of(wiki_search_over(NoPassages()))
        self._tools = {tool.name: tool for tool in (self._search, *map(Tool.of, tools))}

    def opening(self, question: str) -> str:
        return f"Question: {question}\n"

    def parse(self, command: str) -> Move:
        element = xml_element(command)
        if element is None:
            return Malformed("Error: Tool command not found or invalid XML format. Please ensure correct formatting.")
        content = element.content.strip()
        return Answer(content) if element.tag == "answer" else self._call(content)

    def render(self, move: Search | Answer) -> str:
        if isinstance(move, Answer):
            return f"<answer>{move.text}</answer>"
        call = json.dumps({"name": self._search.name, "args": {"query": move.query}}, ensure_ascii=False)
        # JSON reads this form as "</" too, and it closes no tag.
        return "<tool>" + call.replace("</", "<\\/") + "</tool>"

    def passages(self, query: str, found: Sequence[Found]) -> str:
        return documents(found)

    def result(self, text: str) -> str:
        return f"<result>\n{text}\n</result>" if text.strip() else "Error: Tool execution returned empty output."

    def brought(self, observation: str) -> str:
        return observation.removeprefix("<result>").removesuffix("</result>").strip()

    def _call(self, text: str) -> Move:
        try:
            call = json.loads(text)
        except json.JSONDecodeError:
            return BadCall("Error: Invalid JSON format")
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
            return BadCall(f"Error: {error}")
        if not isinstance(call, dict):
            return BadCall("Error: Tool command must be a JSON object")
        name, args = call.get("name"), call.get("args", {})
        try:
            json.dumps([name, *(args if isinstance(args, dict) else ())], ensure_ascii=False).encode()
        except UnicodeEncodeError:  # half a character: no tokenizer and no terminal takes the answer that repeats it
            return BadCall("Error: Invalid JSON format")
        if not name:
            return BadCall("Error: Tool command must specify 'name'")
        if isinstance(name, list | dict):
            return BadCall(f"Error: unhashable type: '{type(name).__name__}'")
        if name not in self._tools:
            return BadCall(f"Error: Unknown tool '{name}'")
        tool = self._tools[name]
        if complaint := tool.complaint(args):
            return BadCall(f"Error: {complaint}")
        return Search(args["query"]) if tool is self._search else Call(tool, args)


class ReActProtocol(Protocol):
    """A word and its object in brackets."""

    name = "react"

    def opening(self, question: str) -> str:
        return f"Question: {question}"

    def parse(self, command: str) -> Move:
        thought, *actions = _ACTION_HEADING.split(command)
        action = parse_bare(actions[-1]).command if actions else thought.strip()
        # As the original's loop does before it steps: models begin with a capital.
        action = action[:1].lower() + action[1:]
        if action.endswith("]"):
            if action.startswith("search["):
                return Search(action[len("search[") : -1])
            if action.startswith("finish["):
                return Answer(action[len("finish[") : -1])
        return Malformed(f"Invalid action: {action}")

    def render(self, move: Search | Answer) -> str:
        return f"finish[{move.text}]" if isinstance(move, Answer) else f"search[{move.query}]"

    def passages(self, query: str, found: Sequence[Found]) -> str:
        if not found:
            return f"Could not find {query}. Similar: []."
        return "\n".join(f"{passage.title}: {_first_sentences(passage.text)}" for passage, _ in found)

    def brought(self, observation: str) -> str:
        return "\n\n".join(line.replace(": ", "\n", 1) for line in observation.split("\n"))

    def closing(self, score: float) -> str:
        return f"Episode finished, reward = {score:g}\n"


class SearchR1Protocol(Protocol):
    """Queries and answers between tags."""

    name = "search_r1"

    def opening(self, question: str) -> str:
        return question

    def parse(self, command: str) -> Move:
        element = search_r1_element(command)
        if element is None:
            return Malformed(
                "\nMy previous action is invalid. If I want to search, I should put the query between <search> and "
                "</search>. If I want to give the final answer, I should put the answer between <answer> and </answer>."
                " Let me try again.\n"
            )
        content = element.content.strip()
        return Search(content) if element.tag == "search" else Answer(content)

    def render(self, move: Search | Answer) -> str:
        return f"<answer>{move.text}</answer>" if isinstance(move, Answer) else f"<search>{move.query}</search>"

    def passages(self, query: str, found: Sequence[Found]) -> str:
        numbered = enumerate((passage for passage, _ in found), 1)
        return "".join(f"Doc {number}(Title: {passage.title}) {passage.text}\n" for number, passage in numbered)

    def result(self, text: str) -> str:
        return f"\n\n<information>{text.strip()}</information>\n\n"

    def brought(self, observation: str) -> str:
        inside = observation.strip().removeprefix("<information>").removesuffix("</information>")
        return "\n\n".join(f"{title}\n{text.strip()}" for title, text in _DOCUMENT.findall(inside))


PROTOCOLS: Final = {protocol.name: protocol for protocol in (XMLProtocol, ReActProtocol, SearchR1Protocol)}


def make_protocol(name: str, tools: Sequence[Callable[..., Any]] = ()) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownNameError: There is none.
        ValueError: It has no way to call other tools than the search, and there are some.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError.of("protocol", name, PROTOCOLS)
    if name == XMLProtocol.name:
        return XMLProtocol(tools)
    if tools:
        raise ValueError(f"only protocol 'xml' can call other tools than the search, got {name!r} with {len(tools)}")
    return PROTOCOLS[name]()


def protocol_of(question: str, opening: str) -> Protocol:
    """The protocol in which an episode opens.

    Raises:
        ValueError: It opens in none.
    """
    for name in PROTOCOLS:
        protocol = make_protocol(name)
        if protocol.opening(question) == opening:
            return protocol
    raise ValueError(f"no protocol opens with {opening!r:.80} for the question {question!r:.80}")


def _first_sentences(text: str, number: int = 5) -> str:
    """What the original shows of a page: paragraphs divided at full stops, the first few sentences on one line."""
    paragraphs = filter(None, (paragraph.strip() for paragraph in text.split("\n")))
    parts = (part.strip().removesuffix(".") for paragraph in paragraphs for part in paragraph.split(". "))
    return " ".join([f"{part}." for part in parts if part][:number])
