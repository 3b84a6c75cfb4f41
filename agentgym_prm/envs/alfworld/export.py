"""Game files in the official format, written from a game's description, for the original engine and for other tools.

Files always follow the current release: its domain, its grammar, its names in their official upper and lower case.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from agentgym_prm.envs.alfworld import generate, rooms
from agentgym_prm.envs.alfworld.dialect import CURRENT, domain_text, grammar_text
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.game import Game, GameDescription
from agentgym_prm.envs.alfworld.goal import Goal, format_goal
from agentgym_prm.envs.alfworld.planner import plan

_DOMAIN_CONSTANTS: Final = {
    **dict.fromkeys(("KnifeType", "ButterKnifeType", "SinkType"), "otype"),
    **dict.fromkeys(("SinkBasinType", "MicrowaveType", "FridgeType"), "rtype"),
}
"""Types that the domain's actions mention, so that every problem has to declare them."""
_TASK_ID = re.compile(r"builtin-(\w+)/(\w+)/(\d+)/(\w+)-(\w+)-(\w+)")


def format_problem(description: GameDescription) -> str:
    """PDDL problem of a game; ``game.parse_problem`` reads the same facts and goal back, in the same order.

    Raises:
        KeyError: A fact has a predicate that the domain does not declare.
    """
    signatures = _signatures()
    objects: dict[str, str] = {}
    facts = []
    for predicate, *arguments in description.facts:
        name, types = signatures[predicate]
        words = [_official_case(argument) for argument in arguments]
        objects.update(zip(words, types, strict=True))
        facts.append(f"    ({' '.join([name, *words])})")
    goal = Goal(
        description.goal.task_type,
        _official_case(description.goal.object_type),
        _official_case(description.goal.receptacle_type),
        _official_case(description.goal.lamp_type),
    )
    objects |= {name: "otype" for name in (goal.object_type, goal.lamp_type) if name}
    objects |= {name: "rtype" for name in (goal.receptacle_type,) if name}
    objects |= _DOMAIN_CONSTANTS
    return "\n".join(
        [
            f"(define (problem {re.sub(r'[^a-zA-Z0-9_-]', '_', description.task_id)})",
            "(:domain alfred)",
            "(:objects",
            *(f"    {name} - {kind}" for name, kind in sorted(objects.items(), key=lambda item: (item[1], item[0]))),
            ")",
            "(:init",
            *facts,
            ")",
            format_goal(goal),
            ")",
            "",
        ]
    )


def game_file(description: GameDescription) -> dict[str, Any]:
    """Content of ``game.tw-pddl``.

    Raises:
        ValueError: The game speaks an older dialect, whose rules and texts this package does not carry.
    """
    if description.dialect != CURRENT:
        raise ValueError(
            f"{description.task_id}: only games of the current release are written, not {description.dialect}"
        )
    return {
        "pddl_domain": domain_text(),
        "grammar": grammar_text(description.task),
        "pddl_problem": format_problem(description),
        "solvable": True,
        "walkthrough": list(description.walkthrough),
    }


def write_game(description: GameDescription, directory: Path) -> Path:
    """Write a builtin game into a tree like the official one.

    The files are ``SPLIT/TASK/TRIAL/game.tw-pddl`` and beside it the ``traj_data.json`` without which the original's
    loader skips the folder; it holds the task's type and parameters only. A file appears whole or not at all.

    Returns:
        The path of the game file.

    Raises:
        ValueError: ``description`` is not a builtin game.
    """
    match = _TASK_ID.fullmatch(description.task_id)
    if match is None:
        raise ValueError(f"only builtin games can be written, got task_id {description.task_id!r}")
    difficulty, split, index, task_type, kind, last = match.groups()
    destination, lamp = ("", last) if description.goal.lamp_type else (last, "")
    # The last field of an official folder is the number of the 3D scene, of which there is none here.
    task = f"{task_type}-{kind}-None-{last}-{int(index)}"
    trial = f"trial_builtin_{difficulty}_{index}"
    folder = directory / split / task / trial
    folder.mkdir(parents=True, exist_ok=True)
    trajectory = {
        "task_id": trial,
        "task_type": task_type,
        "pddl_params": {
            "mrecep_target": "",
            "object_sliced": False,
            "object_target": kind,
            "parent_target": destination,
            "toggle_target": lamp,
        },
    }
    path = folder / "game.tw-pddl"
    _write_json(path, game_file(description))
    _write_json(folder / "traj_data.json", trajectory)
    return path


def export_builtin_games(directory: Path, split: str, difficulty: str, indices: Iterable[int]) -> Iterator[Path]:
    """Write builtin games, each with a plan as its walkthrough, and yield the path of each file once it is there.

    Raises:
        UnknownNameError: No such split or difficulty.
        ValueError: An index is out of range.
    """
    engine = Engine()
    for index in indices:
        description = generate.describe(split, index, difficulty)
        engine.reset(Game(description))
        walkthrough = plan(engine)
        assert walkthrough is not None, f"{description.task_id} cannot be won"
        yield write_game(replace(description, walkthrough=walkthrough), directory)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    # The process id keeps two processes that export the same game from writing into one temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)


@cache
def _signatures() -> dict[str, tuple[str, tuple[str, ...]]]:
    """By lower-case name, each predicate's own spelling and the types of its arguments."""
    declarations = re.findall(r"\((\w+)((?: \?\w+ - \w+)+)\)", domain_text())
    return {name.lower(): (name, tuple(re.findall(r" - (\w+)", arguments))) for name, arguments in declarations}


@cache
def _class_names() -> dict[str, str]:
    names = {*rooms.ACCEPTS, *rooms.PLACES, "Sink", "Bathtub"}
    for kinds in rooms.AFFORDANCES.values():
        names.update(kinds)
    for room in rooms.ROOMS.values():
        names.update(room.fixtures)
    return {name.lower(): name for name in names}


def _official_case(word: str) -> str:
    """The official spelling of a lower-case id or type; words without a known class stay as they are.

    >>> _official_case("sinkbasintype"), _official_case("sink_bar__plus_01_dot_20_bar_sinkbasin")
    ('SinkBasinType', 'Sink_bar__plus_01_dot_20_bar_SinkBasin')
    """
    names = _class_names()
    if word.endswith("type"):
        kind = word.removesuffix("type")
        return f"{names[kind]}Type" if kind in names else word
    return "_bar_".join(names.get(part, part) for part in word.split("_bar_"))
