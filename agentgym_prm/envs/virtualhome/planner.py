"""Plans to a goal, condition by condition: what is missing for it now is done next, until nothing is missing.

No search through states: each condition says which action would fulfil it, each action what has to hold before, and the
first thing that can be done is tried on a copy. Conditions come in an order in which later ones disturb earlier ones
least (things are put away before doors are closed, hands filled before sitting down, turning to something comes last);
where a plan fails all the same, other orders are tried. Plans are short, not shortest. Some goals are out of reach: a
node in no room, a relation that no action makes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.goal import Condition, Edge, Goal, InState, InStates, Performed
from agentgym_prm.envs.virtualhome.graph import Property, Relation, State
from agentgym_prm.envs.virtualhome.script import Action, ScriptLine, ScriptObject

LONGEST: Final = 60
_ORDERS: Final = 4
_OPPOSITE: Final = {
    State.OPEN: State.CLOSED,
    State.CLOSED: State.OPEN,
    State.ON: State.OFF,
    State.OFF: State.ON,
    State.PLUGGED_IN: State.PLUGGED_OUT,
    State.PLUGGED_OUT: State.PLUGGED_IN,
    State.DIRTY: State.CLEAN,
}
_HELD: Final = (Action.DRINK, Action.READ)
_BY_ITSELF: Final = (Action.STANDUP, Action.SLEEP, Action.WAKEUP)
_STANDING: Final = (Action.WALK, Action.SIT, Action.LIE)
_STAND_UP: Final = ScriptLine(Action.STANDUP, ())
_WITHOUT_NEARNESS: Final = (Action.TURNTO, Action.POINTAT, Action.GREET)
_NEEDS: Final = {
    Action.DRINK: (Property.DRINKABLE, Property.RECIPIENT),
    Action.READ: (Property.READABLE,),
    Action.WATCH: (Property.LOOKABLE,),
    Action.GRAB: (Property.GRABBABLE,),
    Action.SWITCHOFF: (Property.HAS_SWITCH,),
    Action.SWITCHON: (Property.HAS_SWITCH,),
    Action.TYPE: (Property.HAS_SWITCH,),
    Action.GREET: (Property.PERSON,),
    Action.EAT: (Property.EATABLE,),
    Action.OPEN: (Property.CAN_OPEN,),
    Action.CLOSE: (Property.CAN_OPEN,),
}
"""One of these properties is needed; elsewhere anything is tried."""

Options = Iterator[ScriptLine]
"""Lines that may bring a condition nearer, the most promising first; all but the first are for when it is refused."""


def plan(
    engine: Engine, goal: Goal, performed: Iterable[Action] = (), favourites: Sequence[int] = ()
) -> tuple[ScriptLine, ...] | None:
    """Script lines that lead from the present state to the goal; ``None`` if none were found, () if it holds.

    Args:
        engine: The present state; it is not changed.
        goal: What has to hold.
        performed: Actions executed since the start.
        favourites: Ids that actions without a stated object are tried on first.
    """
    conditions = sorted(goal.conditions, key=lambda condition: _stage(condition, engine.character))
    for order in range(_ORDERS):
        if order:
            conditions = [*conditions[1:], conditions[0]]
        found = _Attempt(engine, goal, conditions, frozenset(performed), favourites).run()
        if found is not None:
            return found
    return None


def _stage(condition: Condition, character: int) -> int:
    """When a condition's turn comes."""
    if isinstance(condition, Performed):
        return 9 if Action.SLEEP in condition.actions else 0
    if isinstance(condition, Edge) and condition.start == character and condition.wanted:
        stages = {
            Relation.HOLDS_RH: 4,
            Relation.HOLDS_LH: 5,
            Relation.INSIDE: 6,
            Relation.ON: 7,
            Relation.CLOSE: 8,
            Relation.FACING: 10,
        }
        return stages.get(condition.relation, 11)
    if isinstance(condition, Edge):
        return 1 if condition.relation in (Relation.ON, Relation.INSIDE) or not condition.wanted else 8
    if isinstance(condition, InState):
        return {State.OPEN: 2, State.SITTING: 7, State.LYING: 7}.get(condition.state, 3)
    return 7 if condition.states & {State.SITTING, State.LYING} else 3


class _Attempt:
    """One plan in the making, on a copy of the state."""

    def __init__(
        self,
        engine: Engine,
        goal: Goal,
        conditions: Sequence[Condition],
        performed: frozenset[Action],
        favourites: Sequence[int],
    ) -> None:
        self._engine, self._performed, self._favourites = engine.clone(), performed, favourites
        self._conditions = conditions
        self._me = engine.character
        edges = [each for each in goal.conditions if isinstance(each, Edge) and each.wanted]
        self._to_hold = {e.stop for e in edges if e.relation in (Relation.HOLDS_RH, Relation.HOLDS_LH)}
        self._seats = [e.stop for e in edges if e.start == self._me and e.relation is Relation.ON]
        self._lies = any(
            (isinstance(each, InState) and each.state is State.LYING)
            or (isinstance(each, InStates) and State.LYING in each.states)
            for each in goal.conditions
        )

    def run(self) -> tuple[ScriptLine, ...] | None:
        lines: list[ScriptLine] = []
        while len(lines) < LONGEST:
            missing = [each for each in self._conditions if not each.holds(self._engine, self._performed)]
            if not missing:
                return tuple(lines)
            line = next((line for each in missing if (line := self._do(self._towards(each)))), None)
            if line is None:
                return None
            lines.append(line)
        return None

    def _do(self, options: Options) -> ScriptLine | None:
        """Execute the first of the options that can be executed."""
        for line in options:
            if self._execute(line):
                return line
            # Unrepaired, posture stands in nobody's way but of who rests at the start, for good.
            if line.action in _STANDING and self._engine.world.repaired and self._execute(_STAND_UP):
                return _STAND_UP
        return None

    def _execute(self, line: ScriptLine) -> bool:
        success = self._engine.execute(line).success
        if success:
            self._performed |= {line.action}
        return success

    # --- what a condition asks for ---

    def _towards(self, condition: Condition) -> Options:
        if isinstance(condition, Performed):
            for action in sorted(condition.actions, key=lambda action: action.name):
                yield from self._perform(action)
        elif isinstance(condition, InState):
            yield from self._reach_state(condition.node, condition.state)
        elif isinstance(condition, InStates):
            now = frozenset(self._engine.states(condition.node))
            for state in sorted(condition.states - now):
                yield from self._reach_state(condition.node, state)
            for state in sorted(now - condition.states):
                yield from self._leave_state(condition.node, state)
        elif condition.wanted:
            yield from self._reach_edge(condition)
        else:
            yield from self._leave_edge(condition)

    def _reach_state(self, node: int, state: State) -> Options:
        if state in (State.SITTING, State.LYING):
            yield from self._rest(Action.SIT if state is State.SITTING else Action.LIE, self._seats)
            return
        if state is State.CLEAN:
            yield from self._near(node, Action.WASH)
            return
        if state is State.OPEN:
            if self._is(node, State.ON):
                yield from self._near(node, Action.SWITCHOFF)
            yield from self._near(node, Action.OPEN, empty_hand=True)
        elif state is State.CLOSED:
            yield from self._near(node, Action.CLOSE)
        elif state is State.ON:
            if self._is(node, State.PLUGGED_OUT):
                yield from self._near(node, Action.PLUGIN, empty_hand=True)
            yield from self._near(node, Action.SWITCHON)
        elif state is State.OFF:
            yield from self._near(node, Action.SWITCHOFF)
        elif state in (State.PLUGGED_IN, State.PLUGGED_OUT):
            action = Action.PLUGIN if state is State.PLUGGED_IN else Action.PLUGOUT
            yield from self._near(node, action, empty_hand=True)

    def _leave_state(self, node: int, state: State) -> Options:
        if state in (State.SITTING, State.LYING):
            yield _STAND_UP
        elif state in _OPPOSITE:
            yield from self._reach_state(node, _OPPOSITE[state])

    def _reach_edge(self, edge: Edge) -> Options:
        start, relation, stop = edge.start, edge.relation, edge.stop
        if relation is Relation.CLOSE:
            other = stop if start == self._me else start
            if self._me in (start, stop):
                yield self._line(Action.FIND, other)
            return
        if start == self._me:
            if relation is Relation.ON:
                yield from self._rest(Action.LIE if self._lies else Action.SIT, [stop])
                yield from self._rest(Action.LIE, [stop])
            elif relation is Relation.INSIDE:
                yield self._line(Action.WALK, stop)
            elif relation is Relation.FACING:
                yield self._line(Action.TURNTO, stop)
            elif relation in (Relation.HOLDS_RH, Relation.HOLDS_LH):
                yield from self._hold(stop, relation)
        elif relation in (Relation.ON, Relation.INSIDE):
            yield from self._place(start, relation, stop)

    def _leave_edge(self, edge: Edge) -> Options:
        if edge.relation in (Relation.HOLDS_RH, Relation.HOLDS_LH):
            yield self._line(Action.DROP, edge.stop)
        elif edge.start != self._me and edge.relation in (Relation.ON, Relation.INSIDE):
            if edge.stop == self._me:
                yield self._line(Action.PUTOFF, edge.start)
            yield from self._take(edge.start)

    # --- how it is done ---

    def _hold(self, thing: int, hand: Relation) -> Options:
        """Take something into this very hand; what is grabbed goes into the right one if it is free."""
        right = self._engine.targets(self._me, Relation.HOLDS_RH)
        if thing in self._engine.held:
            yield self._line(Action.DROP, thing)
        if right and hand is Relation.HOLDS_RH:
            yield self._line(Action.DROP, right[0])
        if not right and hand is Relation.HOLDS_LH:
            for other in self._engine.reachable:
                if other != thing:
                    yield self._line(Action.GRAB, other)
        yield from self._take(thing)

    def _place(self, thing: int, relation: Relation, place: int) -> Options:
        if thing not in self._engine.held:
            yield from self._take(thing)
            return
        if place == self._me:
            yield self._line(Action.PUTON, thing)
            return
        node = self._engine.node(place)
        if node.is_room:
            yield self._line(Action.WALK, place)
            yield self._line(Action.DROP, thing)
            return
        if relation is Relation.INSIDE and self._is(place, State.CLOSED):
            yield from self._reach_state(place, State.OPEN)
        action = Action.PUTIN if relation is Relation.INSIDE else Action.PUTBACK
        if not self._is_near(place):
            yield self._line(Action.WALK, place)
        yield self._line(action, thing, place)

    def _take(self, thing: int) -> Options:
        """Get hold of something; where it is shut in, open what it is in first."""
        for container in self._containers(thing):
            if self._is(container, State.CLOSED):
                yield from self._reach_state(container, State.OPEN)
        yield from self._near(thing, Action.GRAB, empty_hand=True)

    def _rest(self, action: Action, seats: Sequence[int]) -> Options:
        quality = Property.SITTABLE if action is Action.SIT else Property.LIEABLE
        nodes = self._engine.apartment.nodes
        for seat in [*seats, *[node.id for node in nodes if not seats and quality in node.properties]]:
            yield from self._near(seat, action)

    def _perform(self, action: Action) -> Options:
        if action in _BY_ITSELF:
            yield ScriptLine(action, ())
            return
        candidates = self._candidates(action)
        if action is Action.SWITCHOFF and not any(self._is(node, State.ON) for node in candidates):
            yield from self._reach_state(candidates[0], State.ON) if candidates else ()
        for node in candidates:
            if action in (Action.LOOKAT, Action.WATCH):
                faced = self._engine.has_edge(self._me, Relation.FACING, node)
                if self._is_near(node) and not faced:
                    yield self._line(Action.TURNTO, node)
                yield from self._near(node, action)
            elif action is Action.POUR:
                yield from self._pour(node)
            elif action in _HELD:
                yield self._line(action, node)
                yield from self._take(node)
            elif action in _WITHOUT_NEARNESS:
                yield self._line(action, node)
            else:
                yield from self._near(node, action)

    def _pour(self, node: int) -> Options:
        if node not in self._engine.held:
            yield from self._take(node)
            return
        for place in self._ids(lambda each: Property.RECIPIENT in each.properties):
            if place != node:
                if not self._is_near(place):
                    yield self._line(Action.WALK, place)
                yield self._line(Action.POUR, node, place)

    def _candidates(self, action: Action) -> list[int]:
        qualities = _NEEDS.get(action)
        if action is Action.POUR:
            qualities = (Property.POURABLE, Property.DRINKABLE)
        fit = [
            node_id
            for node_id in self._ids(lambda node: qualities is None or not node.properties.isdisjoint(qualities))
            if node_id != self._me and not self._engine.node(node_id).is_room
        ]
        if action is Action.SWITCHOFF:
            fit = [node_id for node_id in fit if self._is(node_id, State.ON)] or fit
        favourites = [node_id for node_id in self._favourites if node_id in fit]
        return [*favourites, *[node_id for node_id in fit if node_id not in favourites]]

    def _near(self, node: int, action: Action, empty_hand: bool = False) -> Options:
        """Go there if need be, free a hand if need be, and do it."""
        if not self._is_near(node):
            yield self._line(Action.WALK, node)
            yield self._line(Action.FIND, node)
        if empty_hand and len(self._engine.held) == 2:
            for thing in sorted(self._engine.held, key=lambda thing: thing in self._to_hold):
                yield self._line(Action.DROP, thing)
        yield self._line(action, node)

    def _containers(self, thing: int) -> tuple[int, ...]:
        inside = self._engine.targets(thing, Relation.INSIDE)
        return tuple(node_id for node_id in inside if not self._engine.node(node_id).is_room)

    def _is(self, node: int, state: State) -> bool:
        return state in self._engine.states(node)

    def _is_near(self, node: int) -> bool:
        world = self._engine.world
        return world.is_close(world.apartment.number(node))

    def _ids(self, condition: Callable[..., bool]) -> list[int]:
        return [node.id for node in self._engine.apartment.nodes if condition(node)]

    def _line(self, action: Action, *nodes: int) -> ScriptLine:
        return ScriptLine(action, tuple(ScriptObject(self._engine.node(node).class_name, node) for node in nodes))
