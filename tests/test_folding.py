import copy
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from agentgym_prm.agents import HandcodedAgent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.envs.alfworld import ALFWorldEnv
from agentgym_prm.envs.alfworld.handcoded import HandcodedExpert
from agentgym_prm.envs.alfworld.memory import RoomMemory
from agentgym_prm.folding import HistoryFold
from agentgym_prm.types import Action, History, InfoKey, Step, Trajectory

Told = tuple[str, str, tuple[str, ...]]


@dataclass
class Diary:
    """Keeps all that it is told, in a list that a twin must not share."""

    told: list[Told] = field(default_factory=list)

    def observe(self, command: str, observation: str, admissible: tuple[str, ...]) -> None:
        readings.append(observation)
        self.told.append((command, observation, admissible))

    def copy(self) -> "Diary":
        return Diary(self.told.copy())


readings: list[str] = []


def opening(task: str, observation: str, admissible: tuple[str, ...]) -> Diary:
    return Diary([(task, observation, admissible)])


def from_scratch(history: History) -> list[Told]:
    seen = [(step.observation, step.admissible_commands) for step in history.steps]
    seen.append((history.observation, history.admissible_commands))
    return [(said, *turn) for said, turn in zip((history.task, *history.commands), seen, strict=True)]


def grown(history: History, command: str, observation: str, admissible: tuple[str, ...] = ("a",)) -> History:
    step = Step(history.observation, history.admissible_commands, Action(command))
    return history.after(step, observation, {InfoKey.ADMISSIBLE_COMMANDS: admissible})


def chain(length: int, task: str = "t") -> History:
    history = History(task, "start", ("a",))
    for turn in range(length):
        history = grown(history, "a", f"o{turn}")
    return history


def read_back(history: History) -> History:
    """As from a file: equal, but none of its steps is the same object."""
    record = Trajectory(history.task, 0, history.steps, "").to_json()
    return replace(history, steps=Trajectory.from_json(record).steps)


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
def test_a_fold_gives_what_reading_from_scratch_gives(size):
    draws = random.Random(size)
    fold = HistoryFold(opening, size)
    # Few words, so that different histories look alike; a pool of episodes that grow and branch in any order.
    pool = [History(task, "start", ("a", "b")) for task in "tu" for _ in range(3)]
    for _ in range(3000):
        history = draws.choice(pool)
        if len(history.steps) < 12:
            history = grown(history, draws.choice("ab"), draws.choice("xy"), draws.choice([("a",), ("a", "b")]))
        if draws.random() < 0.1:
            history = read_back(history)
        if draws.random() < 0.3:
            pool[draws.randrange(len(pool))] = history
        else:
            pool = [*pool[-30:], history]
        for asked in (history, draws.choice(pool)):
            assert fold.of(asked).told == from_scratch(asked)


def test_a_turn_costs_one_reading_and_branches_share_what_came_before():
    fold, history = HistoryFold(opening), chain(40)
    readings.clear()
    fold.of(history)
    assert len(readings) == 40
    for command in "ab":
        fold.of(grown(history, command, command))
    assert readings[40:] == ["a", "b"]
    # An agent that is not asked at every turn reads what it has missed.
    fold.of(grown(grown(history, "a", "c"), "a", "d"))
    assert readings[42:] == ["c", "d"]


def test_branches_from_a_state_that_was_never_asked_about_read_it_once():
    fold, history = HistoryFold(opening), chain(40)
    readings.clear()
    for command in "abcd":
        fold.of(grown(history, command, command))
    assert len(readings) == 40 + 4


def test_what_differs_anywhere_is_read_anew():
    fold, history = HistoryFold(opening), chain(5)
    fold.of(history)
    first, *others = history.steps
    variants = [
        replace(history, task="u"),
        replace(history, observation="other"),
        replace(history, admissible_commands=("b",)),
        replace(history, steps=(replace(first, action=Action("b")), *others)),
        replace(history, steps=tuple(others)),
        read_back(history),
    ]
    for variant in variants:
        assert fold.of(variant).told == from_scratch(variant)
    assert fold.of(history).told == from_scratch(history)


def test_it_keeps_no_more_than_it_may():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        HistoryFold(opening, 0)
    fold = HistoryFold(opening, size=3)
    histories = [chain(length) for length in range(1, 20)]
    for history in histories:
        fold.of(history)
    assert len(fold._kept) == 3
    # What was used last is still there, and what was used long ago is not.
    readings.clear()
    fold.of(histories[-1])
    assert not readings
    fold.of(histories[5])
    assert len(readings) == 6


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_start_with_nothing_kept(duplicate):
    fold, history = HistoryFold(opening, 5), chain(5)
    fold.of(history)
    twin = duplicate(fold)
    assert (len(fold._kept), len(twin._kept), twin._size) == (2 + 1, 0, 5)
    assert twin.of(history).told == from_scratch(history)


# --- the readings of household episodes ---


def episodes(count: int, turns: int) -> Iterator[History]:
    """Histories of random walks that branch, ten turns at a time, from the state where the last one began."""
    env, draws = ALFWorldEnv(split="train", difficulty="small"), random.Random(0)
    for seed in range(count):
        observation, info = env.reset(seed=seed)
        root = History(info[InfoKey.TASK], observation, info[InfoKey.ADMISSIBLE_COMMANDS])
        yield root
        states = [(root, env.engine.clone())]
        for _ in range(turns // 10):
            history, engine = states[draws.randrange(len(states))]
            engine = engine.clone()
            for _ in range(10):
                command = draws.choice(history.admissible_commands)
                history = grown(history, command, engine.step(command), engine.admissible_commands())
                yield history
                states.append((history, engine.clone()))


def expert_from_scratch(history: History) -> HandcodedExpert:
    expert = HandcodedExpert()
    first, *others = from_scratch(history)
    expert.begin(*first)
    for turn in others:
        expert.observe(*turn)
    return expert


def everything(value: object) -> object:
    """All that an object knows, for comparison."""
    if isinstance(value, HandcodedExpert):
        return {**vars(value), "_memory": vars(value._memory)}
    return vars(value)


@pytest.mark.parametrize(
    ("begin", "fresh"),
    [
        (lambda *first: expert_from_scratch(History(*first)), expert_from_scratch),
        (RoomMemory.begin, lambda history: RoomMemory.of([told[1:] for told in from_scratch(history)])),
    ],
)
@pytest.mark.parametrize("size", [3, 4096])
def test_household_readings_do_not_leak_between_branches(begin: Callable[..., object], fresh, size):
    fold = HistoryFold(begin, size)
    histories = list(episodes(6, 60))
    kept = [fold.of(history) for history in histories]
    random.Random(1).shuffle(order := list(range(len(histories))))
    for index in order:
        expected = everything(fresh(histories[index]))
        assert everything(fold.of(histories[index])) == expected
        # Nor has what came later changed what was given out before.
        assert everything(kept[index]) == expected


def test_agents_and_prompts_answer_as_new_ones_do():
    agent, prompt = HandcodedAgent(), Prompt.load("memory")
    for history in episodes(3, 40):
        assert agent.act(history) == HandcodedAgent().act(history)
        assert prompt.messages(history) == Prompt.load("memory").messages(history)


def test_agents_can_be_copied_and_pickled_while_they_play():
    agent, history = HandcodedAgent(), list(episodes(1, 20))[-1]
    expected = agent.act(history)
    for twin in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert twin.act(history) == expected
