"""Random walks that reach the deep states of a household game, for playing two engines side by side.

A uniform walk mostly wanders; this one picks a *kind* of command first and favours the rare ones, carries objects to
the appliances that take them, and prefers places where objects lie in several receptacles or receptacles share a
location. Now and then it types something that no engine should execute.
"""

import random
from collections import defaultdict
from collections.abc import Sequence

from agentgym_prm.envs.alfworld.game import Game, bits

KIND_WEIGHTS = {
    "take": 6.0,
    "move": 2.5,
    "put": 2.5,
    "heat": 6.0,
    "cool": 6.0,
    "clean": 6.0,
    "slice": 8.0,
    "use": 4.0,
    "open": 5.0,
    "close": 0.7,
    "examine": 2.0,
    "go": 3.5,
    "look": 1.2,
    "inventory": 0.4,
    "help": 0.1,
}
INVALID_SHARE = 0.06


class BiasedWalk:
    """Chooses commands for one game; the choice depends only on the seed and on what is admissible."""

    def __init__(self, game: Game, seed: int) -> None:
        self._random = random.Random(f"walk {game.task_id} {seed}")
        self._game = game
        self._attractive = _attractive_receptacles(game)
        self._last = "look"

    def choose(self, admissible: Sequence[str], held: str) -> str:
        """The next command, given what is admissible and the name of the object in hand (or "")."""
        if self._random.random() < INVALID_SHARE:
            return self._invalid(admissible)
        kinds: dict[str, list[str]] = defaultdict(list)
        for command in admissible:
            kinds[command.split()[0]].append(command)
        weights = {kind: KIND_WEIGHTS[kind] for kind in sorted(kinds)}
        if self._last.startswith(("take", "move")):
            weights["look"] *= 3  # what lies beside shared receptacles shows only then
        kind = self._random.choices(list(weights), list(weights.values()))[0]
        choices = kinds[kind]
        if kind == "go" and self._random.random() < 0.7:
            favoured = [c for c in choices if c.removeprefix("go to ") in self._targets(held)]
            choices = favoured or choices
        if kind == "take" and self._random.random() < 0.3:
            choices = [c for c in choices if "knife" in c] or choices
        self._last = self._random.choice(choices)
        return self._last

    def _targets(self, held: str) -> set[str]:
        if not held:
            return self._attractive
        game, obj = self._game, self._game.object_index[held]
        if game.knives >> obj & 1:
            return {
                name
                for name, contents in zip(game.receptacle_names, game.start_contents, strict=True)
                if contents & game.sliceable
            }
        able = [
            tools
            for tools, mask in (
                (game.sinks, game.cleanable),
                (game.microwaves, game.heatable),
                (game.fridges, game.coolable),
            )
            if mask >> obj & 1
        ]
        tools = {game.receptacle_names[r] for mask in able for r in bits(mask)}
        accepting = {n for n, mask in zip(game.receptacle_names, game.accepts, strict=True) if mask >> obj & 1}
        return tools or (accepting & self._attractive) or accepting

    def _invalid(self, admissible: Sequence[str]) -> str:
        command = self._random.choice(list(admissible))
        things = self._random.choice(self._game.object_names)
        place = self._random.choice(self._game.receptacle_names)
        return self._random.choice(
            [
                command.upper(),
                command.replace(" ", "  ", 1),
                f"  {command} ",
                command + " now",
                f"examine {things}",
                f"take {things} from {place}",
                f"move {things} to {place}",
                f"go to {place}",
                f"open {place}",
                f"use {things}",
                f"slice {things} with {things}",
                f"heat {things} with {place}",
                "",
                "dance",
            ]
        )


def _attractive_receptacles(game: Game) -> set[str]:
    """Receptacles that share a location or an object, or that hold something."""
    shared = {r for at in game.receptacles_at if len(at) > 1 for r in at}
    contents = game.start_contents
    for r, mask in enumerate(contents):
        if any(mask & other for s, other in enumerate(contents) if s != r):
            shared.add(r)
    filled = {r for r, mask in enumerate(contents) if mask & game.pickupable}
    special = set(bits(game.sinks | game.microwaves | game.fridges))
    chosen = shared | (filled if len(shared) < 4 else set()) | special
    return {game.receptacle_names[r] for r in chosen}
