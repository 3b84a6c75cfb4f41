"""The rules and texts that ALFWorld game files carry: one PDDL domain and one text grammar, in two known releases.

The native engine implements exactly these. ``recognise`` compares the rules and texts of a file with them, part by
part, and names what differs; a file that it accepts is played without ever interpreting PDDL or the grammar again.

The two releases differ in four places: the older one (json_2.1.1 as first published) puts things with
``put X in/on Y``, answers that with another sentence, announces an arrival by the location's name, and has no ``help``.
Grammar rules that no action reaches are not compared.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import Any

from agentgym_prm.errors import GameFormatError

TASK_PREFIX = "Your task is to: "
_TASK_PLACE = "@TASK@"
_TASK_RULE = re.compile(r'("rhs": "' + re.escape(TASK_PREFIX) + r')((?:[^"\\]|\\.)*)(")')
_ENGINE_HINT = "the original engine plays such files: engine='textworld' (pip install 'agentgym_prm[alfworld]')"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which of the known releases a file speaks.

    ``put_grammar`` is ``"move"`` (``move X to Y``) or ``"put"`` (``put X in/on Y``), as listed among the admissible
    commands.
    """

    put_grammar: str = "move"
    arrival_names_location: bool = False
    has_help: bool = True


CURRENT = Dialect()


def domain_text() -> str:
    """The PDDL domain of the current release."""
    return _resource("domain.pddl")


def grammar_text(task: str) -> str:
    """The text grammar of the current release for a game whose task is the sentence ``task``."""
    return _resource("grammar.twl2").replace(_TASK_PLACE, json.dumps(task)[1:-1])


def split_task(grammar: str) -> tuple[str, str]:
    """Take the task sentence out of a grammar.

    Returns:
        The sentence, and the grammar with a placeholder in its place: the same for all games of a release.

    Raises:
        GameFormatError: No task sentence, or one that the grammar would not print as it stands.
    """
    match = _TASK_RULE.search(grammar)
    if match is None:
        raise GameFormatError(f"the grammar has no rule whose text starts with {TASK_PREFIX!r}; {_ENGINE_HINT}")
    task = json.loads(f'"{match[2]}"')
    if re.search(r"[\[\]{}#|\\\n]", task):
        raise GameFormatError(f"the task sentence {task!r} holds a character that is grammar syntax; {_ENGINE_HINT}")
    return task, grammar[: match.start(2)] + _TASK_PLACE + grammar[match.end(2) :]


@cache
def recognise(domain: str, grammar: str) -> Dialect:
    """Which release ``domain`` and ``grammar`` (without its task sentence) belong to.

    Cached, so that all games of one release cost one comparison a process.

    Raises:
        GameFormatError: A part is missing, unknown or different; the message names it and shows both forms.
    """
    actions = _check_domain(domain)
    rules, templates = _parse_grammar(grammar)
    arrival, put = rules.get("GotoLocation.feedback"), templates.get("PutObject")
    dialect = Dialect(
        put_grammar="put" if put is not None and put[0].startswith("put ") else "move",
        arrival_names_location=arrival is not None and "{lend.name}" in json.dumps(arrival),
        has_help="help" in actions,
    )
    _check_grammar(rules, templates, actions, dialect)
    return dialect


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _differs(part: str, expected: object, received: object) -> GameFormatError:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (expected, received)]
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False)))
    start = max(0, same - 40)
    shown = [
        ("…" if start else "") + text[start : same + 80] + ("…" if len(text) > same + 80 else "") for text in texts
    ]
    return GameFormatError(
        f"{part} is not the one the native engine knows: expected {shown[0]!r}, got {shown[1]!r}; {_ENGINE_HINT}"
    )


# --- the PDDL domain ---


def _check_domain(domain: str) -> set[str]:
    """Compare every part of the domain; returns the names of its actions."""
    known, received = _domain_parts(_resource("domain.pddl")), _domain_parts(domain)
    optional = {":action help"}
    for name in sorted(known.keys() - received.keys() - optional):
        raise _differs(f"PDDL domain: {name}", known[name], "nothing")
    for name, text in received.items():
        if name not in known:
            raise _differs(f"PDDL domain: {name}", "nothing", text)
        # No receptacle is ever of the type Sink, so releases with and without this disjunct are the same game.
        if text.replace("(receptacleType ?r SinkType) ", "") != known[name].replace(
            "(receptacleType ?r SinkType) ", ""
        ):
            raise _differs(f"PDDL domain: {name}", known[name], text)
    return {name.removeprefix(":action ") for name in received if name.startswith(":action ")}


def _domain_parts(text: str) -> dict[str, str]:
    """The sections of a domain, comments and layout removed, by name (``":predicates"``, ``":action look"``)."""
    tokens = re.findall(r"[()]|[^\s()]+", re.sub(r";[^\n]*", "", text))
    parts: dict[str, str] = {}
    depth, start = 0, 0
    for position, token in enumerate(tokens):
        if token == "(":
            depth += 1
            if depth == 2:
                start = position
        elif token == ")":
            if depth == 2:
                section = tokens[start : position + 1]
                name = " ".join(section[1:3]) if section[1] in (":action", "domain") else section[1]
                parts[name] = " ".join(section).replace("( ", "(").replace(" )", ")")
            depth -= 1
    if depth != 0 or not parts:
        raise GameFormatError("the PDDL domain is damaged: its parentheses do not balance")
    return parts


# --- the text grammar ---

_SECTION = re.compile(
    r'^grammar :: """(?P<main>.*?)""";'
    r'|^action (?P<name>\w+) \{\s*template :: "(?P<template>.*?)";\s*feedback :: "(?P<feedback>.*?)";'
    r'(?:\s*grammar :: """(?P<own>.*?)""";)?\s*^\}',
    re.DOTALL | re.MULTILINE,
)


def _parse_grammar(text: str) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    """All rules, and each action's (command template, feedback)."""
    rules: dict[str, Any] = {}
    templates: dict[str, tuple[str, str]] = {}
    for match in _SECTION.finditer(text):
        block = match["main"] or match["own"]
        if block:
            try:
                rules.update(json.loads(textwrap.dedent(block)))
            except json.JSONDecodeError as error:
                raise GameFormatError(f"the text grammar is damaged: {error}") from error
        if match["name"]:
            templates[match["name"]] = (match["template"], match["feedback"].strip())
    return rules, templates


def _check_grammar(
    rules: dict[str, Any], templates: dict[str, tuple[str, str]], actions: set[str], dialect: Dialect
) -> None:
    known_rules, known_templates = _known_grammar(dialect)
    if "help" in templates and templates["help"][1] == "#help.feedback#":
        # The same text, kept in a rule instead of in the action.
        templates = templates | {"help": ("help", rules["help.feedback"][0]["rhs"].strip())}
    for action in sorted(actions):
        if templates.get(action) != known_templates[action]:
            raise _differs(f"text grammar: action {action}", known_templates[action], templates.get(action, "nothing"))
    for name in _reachable(known_rules, ["#intro#", *(known_templates[action][1] for action in actions)]):
        if rules.get(name) != known_rules[name]:
            raise _differs(f"text grammar: rule {name!r}", known_rules[name], rules.get(name, "nothing"))


def _known_grammar(dialect: Dialect) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    text = _resource("grammar.twl2")
    if dialect.put_grammar == "put":
        text = text.replace("move {o} to {r}", "put {o} in/on {r}")
        text = text.replace("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}.")
    if dialect.arrival_names_location:
        text = text.replace("You arrive at {r.name}.", "You arrive at {lend.name}.")
    return _parse_grammar(text)


def _reachable(rules: dict[str, Any], texts: list[str]) -> Iterator[str]:
    """Names of the rules that ``texts`` refer to, directly or through other rules."""
    seen: set[str] = set()
    while texts:
        for name in re.findall(r"#([\w.()-]+)#", texts.pop()):
            if name in rules and name not in seen:
                seen.add(name)
                texts.extend(alternative["rhs"] for alternative in rules[name])
                yield name
    # Lists are joined by rules that no text names.
    yield from ("list_empty", "list_separator", "list_last_separator")
