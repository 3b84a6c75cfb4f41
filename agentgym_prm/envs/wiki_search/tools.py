"""Tools that an agent may call: plain Python functions, described to it by their signatures and docstrings.

A docstring is read in Google's form: a description, then sections ``Args:``, ``Returns:`` and ``Examples:``, an example
being the arguments of a call as JSON.

A call that a function cannot take, or that makes it complain of a value, is the agent's mistake and gets the answer
``Error: …`` in Python's own words, as in the source system. A tool that fails for another reason (a server that is
down, a file that is gone) raises: there, too, the agent is told that as a result.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentgym_prm.search.core import Found, PassageSearch

NOTHING_FOUND: Final = "No relevant Wikipedia content found."
_BLAMED_ON_ARGUMENTS: Final = (ArithmeticError, LookupError, TypeError, ValueError)
_SECTIONS: Final = ("Args:", "Returns:", "Examples:")
_CHECKED: Final[Mapping[Any, Any]] = {str: str, int: int, float: (int, float), bool: bool, list: list, dict: dict}
"""Annotations that a JSON value can be compared with, and what fits them."""


def wiki_search_over(index: PassageSearch, k: int = 1) -> Callable[[str], str]:
    """The search tool: a function ``wiki_search(query)`` of the ``k`` best passages of ``index``."""

    def wiki_search(query: str) -> str:
        """Searches Wikipedia and returns the content of what matches best.

        Args:
            query: what to look for, a few keywords or a question

        Returns:
            title and text

        Examples:
            {"query": "capital of Norway"}
        """
        return documents(index.search([query], k)[0])

    # So that Python's complaints about arguments name the tool as the agent knows it.
    wiki_search.__qualname__ = "wiki_search"
    return wiki_search


def documents(found: Sequence[Found]) -> str:
    """Passages as the search tool returns them: title, line break, text; an empty line between two."""
    return "\n\n".join(f"{passage.title}\n{passage.text}" for passage, _ in found) or NOTHING_FOUND


class NoPassages:
    """An encyclopedia without any passage, where only the search tool's signature is needed."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Found]]:
        """Nothing for each query."""
        return [[] for _ in queries]


@dataclass(frozen=True)
class Tool:
    """A function and how it is called."""

    name: str
    function: Callable[..., Any]
    signature: inspect.Signature

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Tool":
        """The tool that a function is.

        Raises:
            TypeError: It has no name or no signature, e.g. a ``functools.partial``.
        """
        name = getattr(function, "__name__", "")
        if not callable(function) or not name:
            raise TypeError(f"a tool must be a named function, got {function!r}")
        return cls(name, function, inspect.signature(function))

    def complaint(self, args: Any) -> str:
        """What is wrong with the arguments of a call, ``""`` if nothing: it is not called then."""
        if not isinstance(args, Mapping):
            return f"{self.name}() argument after ** must be a mapping, not {type(args).__name__}"
        try:
            bound = self.signature.bind(**args)
        except TypeError as mismatch:
            return self._in_pythons_words(args) or f"{self.name}() {mismatch}"
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].annotation
            fits = _CHECKED.get(kind, object) if isinstance(kind, type) else object
            if not isinstance(value, fits):
                return f"{self.name}() argument {name!r} must be {kind.__name__}, not {type(value).__name__}"
        return ""

    def _in_pythons_words(self, args: Mapping[str, Any]) -> str:
        """Why Python cannot begin the call: only a plain function is sure not to begin."""
        if inspect.isfunction(self.function) and not hasattr(self.function, "__wrapped__"):
            try:
                self.function(**args)
            except TypeError as error:
                return str(error)
        return ""

    def call(self, args: Mapping[str, Any]) -> str:
        """What the function returns, as text; ``Error: …`` if it complains of a value.

        Raises:
            Exception: It failed for a reason that no argument is to blame for.
        """
        try:
            return str(self.function(**args))
        except _BLAMED_ON_ARGUMENTS as error:
            return f"Error: {error}"

    def description(self) -> str:
        """Name, purpose, arguments with types and defaults, what is returned, and examples of calls."""
        text, sections = _docstring(self.function)
        meanings = dict(_entry(line) for line in sections["Args:"])
        lines = [f"{self.name}: {text}", "Arguments:"]
        for name, parameter in self.signature.parameters.items():
            kind = _type_name(parameter.annotation)
            default = "" if parameter.default is parameter.empty else f", default {parameter.default!r}"
            lines.append(f"  - {name} ({kind}{default}){': ' * (name in meanings)}{meanings.get(name, '')}")
        returned = " ".join(sections["Returns:"])
        lines.append(f"Returns: {_type_name(self.signature.return_annotation)}{': ' * bool(returned)}{returned}")
        lines.append("Example:")
        lines += [f'  {{"name": {json.dumps(self.name)}, "args": {args}}}' for args in self._examples(sections)]
        return "\n".join(lines)

    def _examples(self, sections: Mapping[str, list[str]]) -> list[str]:
        needed = [name for name, each in self.signature.parameters.items() if each.default is each.empty]
        return sections["Examples:"] or [json.dumps(dict.fromkeys(needed, "…"), ensure_ascii=False)]


def describe(tools: Iterable[Callable[..., Any]]) -> str:
    """What an agent is told of the tools that it may call."""
    return "\n\n".join(Tool.of(function).description() for function in tools)


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, list[str]]]:
    """The description in one line, and the lines of each section."""
    description: list[str] = []
    sections: dict[str, list[str]] = {heading: [] for heading in _SECTIONS}
    into = description
    for line in (inspect.getdoc(function) or "").splitlines():
        if line.strip().endswith(":") and not line.startswith(" "):
            into = sections.get(line.strip(), [])
        elif line.strip():
            into.append(line.strip())
    return " ".join(description), sections


def _entry(line: str) -> tuple[str, str]:
    name, _, meaning = line.partition(":")
    return name.partition(" ")[0], meaning.strip()


def _type_name(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return "any"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
