import tracemalloc

import pytest

from agentgym_prm.agents.scripted import HomekeeperAgent
from agentgym_prm.envs.core import finished_step, opening_history
from agentgym_prm.envs.virtualhome import VirtualHomeEnv
from agentgym_prm.envs.virtualhome.experts import PlannerExpert, ProgramExpert
from agentgym_prm.envs.virtualhome.homekeeper import Homekeeper, clauses
from agentgym_prm.envs.virtualhome.memory import HomeMemory
from agentgym_prm.envs.virtualhome.task import read_task
from agentgym_prm.envs.virtualhome.text_engine import TextEngine
from agentgym_prm.types import Action, InfoKey
from tests.envs.virtualhome.tasks import milk, milk_record


def started() -> TextEngine:
    engine = TextEngine()
    engine.reset(milk())
    return engine


def test_the_program_is_replayed_without_the_line_that_cannot_be_executed():
    engine = started()
    expert = ProgramExpert(engine)
    expert.begin()
    given = []
    while command := expert.choose():
        given.append(command)
        engine.step(command)
        expert.observe(command)
    assert given == ["walk to kitchen", "walk to fridge", "open fridge", "grab milk"]
    assert engine.won


@pytest.mark.parametrize("make", [ProgramExpert, PlannerExpert])
def test_a_program_line_about_what_is_not_in_the_apartment_is_left_out(make, monkeypatch):
    monkeypatch.setattr("agentgym_prm.envs.virtualhome.experts.plan", lambda *_: None)  # the program is all there is
    record = milk_record()
    record["program"].insert(0, "[FIND] <unicorn> (1.99999)")
    engine = TextEngine()
    engine.reset(read_task(record, record["init_graph"], "milk"))
    expert = make(engine)
    expert.begin()
    commands = []
    while not engine.won:
        commands.append(expert.choose())
        engine.step(commands[-1])
        expert.observe(commands[-1])
    assert commands == ["walk to kitchen", "walk to fridge", "open fridge", "grab milk"]


def test_the_program_has_no_answer_once_something_else_was_done():
    engine = started()
    expert = ProgramExpert(engine)
    expert.begin()
    for command, advice in (("sing", "walk to kitchen"), ("Walk to kitchen", "walk to fridge"), ("walk to bed", "")):
        engine.step(command)
        expert.observe(command)
        assert expert.choose() == advice


def test_the_planner_plans_anew_wherever_it_is_led():
    engine = started()
    expert = PlannerExpert(engine)
    expert.begin()
    assert expert.choose() == "walk to fridge"
    for command in ("walk to bed", "walk to book", "grab book", "walk to towel", "grab towel"):
        engine.step(command)
        expert.observe(command)
    commands = []
    while command := expert.choose():
        commands.append(command)
        engine.step(command)
        expert.observe(command)
    # Both hands are full: one is freed to open the fridge, the right one for the milk.
    assert commands == ["walk to fridge", "drop book", "open fridge", "grab milk"]
    assert engine.won


def test_the_planner_fills_the_hand_that_the_goal_names():
    engine = started()
    expert = PlannerExpert(engine)
    expert.begin()
    for command in ("walk to mug", "grab mug"):
        engine.step(command)
        expert.observe(command)
    commands = []
    while command := expert.choose():
        commands.append(command)
        engine.step(command)
        expert.observe(command)
    # The mug is in the right hand; with the left one free the fridge can be opened, but the milk would go to the left.
    assert commands == ["walk to fridge", "open fridge", "drop mug", "grab milk"]
    assert engine.won


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("put apple in fridge, close fridge", [("PUTIN", "apple", "fridge"), ("CLOSE", "fridge")]),
        ("Turn the lamp on. Then I sit down on the couch", [("SWITCHON", "lamp"), ("SIT", "couch")]),
        ("put on jacket and set the cup down on the coffee table",
         [("PUTON", "jacket"), ("PUTBACK", "cup", "coffee table")]),
        ("pour milk into the water glass; drink it", [("POUR", "milk", "water glass")]),
        ("Go to the living room", [("WALK", "living room")]),
        ("be happy", []),
    ],
)  # fmt: skip
def test_descriptions_are_read_clause_by_clause(description, expected):
    read = [(clause.action.name, *clause.words) for clause in clauses(f"Some activity ({description})")]
    assert read == expected


def test_memory_holds_what_the_texts_told():
    memory = HomeMemory.begin("", "", ("walk to bathroom", "walk to fridge", "walk to kitchen", "walk to oven"))
    assert (memory.rooms, memory.visited, memory.room) == (("bathroom", "kitchen"), ("kitchen",), "kitchen")
    assert memory.where == {"fridge": "kitchen", "oven": "kitchen"}
    assert memory.unopened == ("fridge", "oven")
    memory.observe("walk to fridge", "fridge is CLOSED, cup, plate, cup ON plate. ", ("open fridge", "walk to kitchen"))
    assert memory.near == ("fridge", "cup", "plate")
    assert memory.states == {"fridge": ("CLOSED",), "cup": (), "plate": ()}
    assert memory.on == {"cup": "plate"}
    memory.observe("grab cup", "fridge is CLOSED, plate. You have cup. ", ("open fridge",))
    assert (memory.held, memory.on, memory.failed) == (("cup",), {}, False)
    memory.observe("grab spoon", "Nothing happens.", ("open fridge",))
    assert (memory.held, memory.failed, memory.last) == (("cup",), True, ("grab cup", "grab spoon"))
    twin = memory.copy()
    twin.observe("open fridge", "fridge is OPEN, milk. You have cup. ", ("put cup in fridge",))
    twin.observe("put cup in fridge", "fridge is OPEN, milk, cup. ", ("grab cup",))
    assert twin.inside == {"cup": "fridge"}
    assert (memory.inside, memory.states["fridge"]) == ({}, ("CLOSED",))


def test_lists_of_commands_read_long_ago_are_not_kept():
    memory = HomeMemory.begin("", "", ())
    tracemalloc.start()
    try:
        for number in range(4_000):
            memory.observe("sing", "Nothing happens.", ("sleep",) * 200 + (str(number),))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A list and what was read in it: 2 * 200 pointers, 3.2 kB, of each; of a full apartment it is ten times as much.
    assert kept < 6_000_000


def play(env: VirtualHomeEnv, seed: int, disturb=()) -> tuple[bool, int]:
    """Whether the text expert wins from its texts alone, and in how many steps; the first commands are given."""
    observation, info = env.reset(seed=seed)
    history, agent = opening_history(observation, info), HomekeeperAgent()
    for turn in range(40):
        action = Action(disturb[turn](history)) if turn < len(disturb) else agent.act([history])[0]
        observation, reward, terminated, _, info = env.step(action.command)
        step = finished_step(history, action, reward=reward, terminated=terminated, truncated=False, info=info)
        history = history.after(step, observation, info)
        if terminated:
            return info[InfoKey.WON], turn + 1
    return False, 40


@pytest.mark.parametrize(
    ("difficulty", "in_view", "count", "longest"),
    [("small", True, 60, 12), ("full", False, 8, 9), ("full", True, 8, 24)],
)
@pytest.mark.parametrize("split", ["train", "valid_unseen"])
def test_the_text_expert_wins_builtin_tasks(difficulty, in_view, count, longest, split):
    env = VirtualHomeEnv(difficulty=difficulty, split=split, in_view=in_view)
    won, steps = zip(*(play(env, seed) for seed in range(count)), strict=True)
    assert all(won)
    assert sum(steps) / count <= longest


def test_the_text_expert_goes_on_from_wherever_somebody_led():
    env = VirtualHomeEnv(difficulty="small")

    def some(offset):
        return lambda history: history.admissible_commands[offset % len(history.admissible_commands)]

    won = [play(env, seed, [some(seed), some(3 * seed), some(7), lambda history: "sing"])[0] for seed in range(60)]
    # Random commands may fill the right hand for good (a goal asks for a thing in it), or shut things away.
    assert sum(won) >= 54


def test_the_text_expert_finds_back_from_a_room_that_it_cannot_name():
    # Walking to something out of view is understood, and leads to a room of which the texts do not say which it is.
    env = VirtualHomeEnv(difficulty="small")

    def out_of_view(history):
        furniture = [node.class_name for node in env.engine.task.apartment.nodes if node.category == "Furniture"]
        return next(
            command
            for command in (f"walk to {name}" for name in furniture)
            if command not in history.admissible_commands
        )

    def to_a_room(history):
        rooms = [node.class_name for node in env.engine.task.apartment.nodes if node.is_room]
        return f"walk to {rooms[len(history.steps) % len(rooms)]}"

    assert all(play(env, seed, [out_of_view, to_a_room])[0] for seed in range(60))


@pytest.mark.parametrize("expert", ["planner", "homekeeper"])
def test_where_posture_is_real_experts_stand_up_before_they_go(expert):
    env = VirtualHomeEnv(difficulty="small", repaired=True, expert=expert)
    stood = 0
    for seed in range(30):
        _, info = env.reset(seed=seed)
        classes = {node.class_name for node in env.engine.task.apartment.nodes}
        seat = "bed" if "bed" in classes else "couch"
        for command in (f"walk to {seat}", f"sit on {seat}"):
            *_, info = env.step(command)
            assert info[InfoKey.VALID_ACTION]
        assert "stand up" in info[InfoKey.ADMISSIBLE_COMMANDS]
        commands = []
        while not info[InfoKey.WON] and len(commands) < 30:
            commands.append(info[InfoKey.EXPERT_ACTION])
            *_, info = env.step(commands[-1])
        assert info[InfoKey.WON], (seed, commands)
        assert commands.count("stand up") <= 1
        stood += commands[0] == "stand up"
    assert stood >= 25  # the others have all that they need within reach


def test_the_expert_inside_the_environment_is_the_agent_outside():
    env = VirtualHomeEnv(difficulty="small", expert="homekeeper")
    agent = HomekeeperAgent()
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        history, terminated = opening_history(observation, info), False
        while not terminated:
            action = agent.act([history])[0]
            assert action.command == info[InfoKey.EXPERT_ACTION]
            observation, reward, terminated, _, info = env.step(action.command)
            step = finished_step(history, action, reward=reward, terminated=terminated, truncated=False, info=info)
            history = history.after(step, observation, info)


def test_where_nothing_is_understood_there_is_no_answer():
    assert Homekeeper.begin("Muse (be happy)", "", ("walk to kitchen",)).choose() == ""
