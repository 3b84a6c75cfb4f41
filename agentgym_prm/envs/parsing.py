"""Replies of language models, taken apart: which command, which reasoning, or what is wrong with the form.

A reply in another form is data, not an exception: ``ParsedReply.error`` says what is missing and ``command`` is empty,
so that the environment answers it as it answers any command it does not know. Nothing is guessed: free text around a
well-formed command is ignored, but a command without its heading is not looked for.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from agentgym_prm.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What a reply says. ``error`` is empty exactly if it was well-formed; ``command`` is empty otherwise."""

    command: str = ""
    reasoning: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """One way to write a reply: ``parse`` reads it, ``render`` writes it from a command and a reasoning.

    ``command_only`` says that a reply is the command and nothing else.
    """

    name: str
    parse: Callable[[str], ParsedReply]
    render: Callable[[str, str], str]
    command_only: bool = False


def household_command(line: str) -> str:
    """The form in which ALFWorld understands commands: lower case, nothing outside ``[a-z0-9 /]``, single spaces.

    >>> household_command(" Go to **Fridge 1**.")
    'go to fridge 1'
    """
    return " ".join(re.sub(r"[^a-z0-9 /]", "", line.lower()).split())


def home_command(line: str) -> str:
    """As ``household_command`` for VirtualHome, whose names have underscores and may be followed by ids in brackets.

    A hyphen stays within a word: apartments of the benchmark hold ``band-aids``.

    >>> home_command("- Walk to **coffee_table (12)**.")
    'walk to coffee_table (12)'
    """
    return " ".join(re.sub(r"[^a-z0-9 _()-]|(?<![a-z0-9])-|-(?![a-z0-9])", "", line.lower()).split())


def verbatim_command(line: str) -> str:
    """The line as it is, without white space around it."""
    return line.strip()


CLEANERS: Final[dict[str, Callable[[str], str]]] = {
    "household": household_command,
    "home": home_command,
    "verbatim": verbatim_command,
}
"""How the command line of a reply becomes a command, by name."""


def parse_bare(reply: str) -> ParsedReply:
    """The reply is the command: its first line that is not blank.

    >>> parse_bare("look").command
    'look'
    """
    line = next((line.strip() for line in reply.splitlines() if line.strip()), "")
    return ParsedReply(line) if line else ParsedReply(error="the reply is empty")


def parse_reason_action(reply: str) -> ParsedReply:
    r"""``REASON:`` and ``ACTION:`` headings; the command is the first line after the last ``ACTION:``.

    >>> parse_reason_action("REASON:\nIt is dark.\nACTION:\nuse desklamp 1")
    ParsedReply(command='use desklamp 1', reasoning='It is dark.', error='')
    """
    return _parse_headings(reply, "REASON", "ACTION")


def parse_thought_action(reply: str) -> ParsedReply:
    r"""``Thought:`` and ``Action:`` headings; the command is the first line after the last ``Action:``.

    >>> parse_thought_action("Thought: It is dark.\nAction: use desklamp 1").command
    'use desklamp 1'
    """
    return _parse_headings(reply, "Thought", "Action")


class Element(NamedTuple):
    """An element of a message: ``<tag>content</tag>``."""

    tag: str
    content: str
    start: int
    """Where in the message it begins."""

    @property
    def written(self) -> str:
        """As it stands in the message."""
        return f"<{self.tag}>{self.content}</{self.tag}>"


def first_element(tag: str, message: str) -> Element | None:
    """What ``re.search("<tag>(.*?)</tag>")`` finds, line breaks included, but in linear time.

    >>> first_element("b", "<b><a>x</a></b></b>").content
    '<a>x</a>'
    """
    start = message.find(f"<{tag}>")
    inside = start + len(tag) + 2
    end = message.find(f"</{tag}>", inside) if start >= 0 else -1
    return Element(tag, message[inside:end], start) if end >= 0 else None


def xml_element(message: str) -> Element | None:
    """What counts of a message in the XML tool protocol: the first answer, else the first tool call."""
    return first_element("answer", message) or first_element("tool", message)


def search_r1_element(message: str) -> Element | None:
    """What counts of a message in Search-R1's protocol: whichever comes first, a search or an answer.

    Its authors' code cuts a message after the first end of a search, else of an answer, before it looks.
    """
    for end in ("</search>", "</answer>"):
        if end in message:
            message = message.partition(end)[0] + end
            break
    elements = [first_element(tag, message) for tag in ("search", "answer")]
    return min(filter(None, elements), key=lambda element: element.start, default=None)


def parse_xml(reply: str) -> ParsedReply:
    """``<reasoning>…</reasoning>``, then ``<tool>{"name": …, "args": {…}}</tool>`` or ``<answer>…</answer>``.

    The command is that element as it was written: the environment answers calls that are no JSON. The first one counts,
    an answer before a call, wherever it stands, as if a model had been stopped there.

    >>> parse_xml('<reasoning>Ask.</reasoning><tool>{"name": "wiki_search", "args": {"query": "Oslo"}}</tool>').command
    '<tool>{"name": "wiki_search", "args": {"query": "Oslo"}}</tool>'
    """
    return _parse_element(reply, xml_element(reply), "reasoning", ("tool", "answer"))


def parse_search_r1(reply: str) -> ParsedReply:
    """``<think>…</think>``, then ``<search>…</search>`` or ``<answer>…</answer>``: the first one counts.

    >>> parse_search_r1("<think>Ask.</think><search>Oslo</search>").command
    '<search>Oslo</search>'
    """
    return _parse_element(reply, search_r1_element(reply), "think", ("search", "answer"))


def _parse_element(reply: str, element: Element | None, reasoning_tag: str, wanted: tuple[str, str]) -> ParsedReply:
    thoughts = re.findall(f"<{reasoning_tag}>(.*?)</{reasoning_tag}>", reply, re.DOTALL)
    reasoning = "\n".join(text.strip() for text in thoughts)
    if element is None:
        first, second = wanted
        error = f"the reply has neither <{first}>…</{first}> nor <{second}>…</{second}>"
        return ParsedReply(reasoning=reasoning, error=error)
    return ParsedReply(element.written, reasoning)


def _parse_headings(reply: str, reason: str, action: str) -> ParsedReply:
    parts = re.split(rf"^[ \t]*{action}[ \t]*:", reply, flags=re.IGNORECASE | re.MULTILINE)
    before = re.split(rf"^[ \t]*{reason}[ \t]*:", parts[0], maxsplit=1, flags=re.IGNORECASE | re.MULTILINE)
    reasoning = before[-1].strip()
    if len(parts) == 1:
        return ParsedReply(reasoning=reasoning, error=f"the reply has no line that starts with {action}:")
    command = parse_bare(parts[-1]).command
    return ParsedReply(command, reasoning) if command else ParsedReply("", reasoning, f"nothing follows {action}:")


def _render_xml(command: str, reasoning: str) -> str:
    return f"<reasoning>{reasoning}</reasoning>{command}" if reasoning else command


def _render_search_r1(command: str, reasoning: str) -> str:
    return f"<think>{reasoning}</think>{command}" if reasoning else command


_FORMATS: Final = (
    ReplyFormat("bare", parse_bare, lambda command, reasoning: command, command_only=True),
    ReplyFormat("reason_action", parse_reason_action, "REASON:\n{1}\nACTION:\n{0}".format),
    ReplyFormat("thought_action", parse_thought_action, "Thought: {1}\nAction: {0}".format),
    ReplyFormat("xml", parse_xml, _render_xml),
    ReplyFormat("search_r1", parse_search_r1, _render_search_r1),
)
REPLY_FORMATS: Final = {each.name: each for each in _FORMATS}


def parse_reply(reply: str, reply_format: str, commands: str = "verbatim") -> ParsedReply:
    """Read a reply.

    Args:
        reply: All that the model wrote.
        reply_format: ``"bare"``, ``"reason_action"``, ``"thought_action"``, ``"xml"`` or ``"search_r1"``.
        commands: How the command is cleaned: ``"household"`` (ALFWorld), ``"home"`` (VirtualHome) or ``"verbatim"``.

    Raises:
        UnknownNameError: No such format or cleaner. A malformed reply raises nothing.
    """
    if reply_format not in REPLY_FORMATS:
        raise UnknownNameError.of("reply format", reply_format, REPLY_FORMATS)
    if commands not in CLEANERS:
        raise UnknownNameError.of("command cleaner", commands, CLEANERS)
    parsed = REPLY_FORMATS[reply_format].parse(reply)
    if parsed.error:
        return parsed
    command = CLEANERS[commands](parsed.command)
    if not command:
        return ParsedReply(reasoning=parsed.reasoning, error="nothing is left of the command after cleaning")
    return ParsedReply(command, parsed.reasoning)
