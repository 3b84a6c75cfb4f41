import random

import pytest

from agentgym_prm.envs.virtualhome.commands import FORMS
from agentgym_prm.envs.virtualhome.task import read_task
from agentgym_prm.envs.virtualhome.text_engine import NOT_A_COMMAND, TextEngine
from tests.envs.virtualhome import flat
from tests.envs.virtualhome.tasks import milk, milk_record


def started(**kwargs) -> TextEngine:
    engine = TextEngine(**kwargs)
    engine.reset(milk())
    return engine


def test_an_episode_in_words_from_the_opening_to_the_goal():
    engine = TextEngine()
    assert engine.reset(milk()) == "The task is Fetch milk (open fridge, grab milk)."
    told = [engine.step(c) for c in ("walk to fridge", "grab milk", "open fridge", "grab milk")]
    assert told == [
        "fridge is CLOSED and OFF and PLUGGED_IN, face. ",
        "Nothing happens.",
        "fridge is OPEN and OFF and PLUGGED_IN, milk, face. ",
        "fridge is OPEN and OFF and PLUGGED_IN, milk, face. You have milk. ",
    ]
    assert (engine.won, engine.done, engine.outcome) == (True, True, 1.0)


def test_a_refusal_is_in_the_executor_s_words_and_changes_nothing():
    engine = started()
    engine.step("walk to fridge")
    before = engine.world.to_graph(), engine.admissible_commands()
    engine.step("grab milk")
    assert not engine.valid
    assert engine.error == (
        f'<milk> ({flat.MILK}) is inside other closed thing when executing "[GRAB] <milk> ({flat.MILK}) [0]"'
    )
    for command, error in (("sing", NOT_A_COMMAND), ("grab piano", "there is no piano here")):
        assert engine.step(command) == "Nothing happens."
        assert engine.error == error
    assert (engine.world.to_graph(), engine.admissible_commands()) == before
    engine.step("open fridge")
    assert (engine.valid, engine.error) == (True, "")


def test_a_refusal_without_a_word_of_the_executor_s_gets_ours():
    # The original refuses to walk to what is in no room, and says nothing.
    engine = started()
    assert engine.step("walk to ghost") == "Nothing happens."
    assert engine.error == f"<ghost> ({flat.GHOST}) is in no room"


def test_the_share_of_the_goal_is_told_at_every_step():
    engine = started()
    shares = [engine.goal_condition_success_rate]
    for command in ("walk to fridge", "open fridge", "grab milk"):
        engine.step(command)
        shares.append(engine.goal_condition_success_rate)
    assert shares == [0, 0, 0.5, 1]


def test_admissible_commands_are_exactly_those_that_are_executed():
    """Every form with every class, tried on copies, along a random walk."""
    classes = sorted({name for _, name, _, _ in flat.NODES})
    candidates = set()
    for action, form in FORMS.items():
        if action.parameters == 0:
            candidates.add(form)
        elif action.parameters == 1:
            candidates |= {form.format(name) for name in classes}
        else:
            candidates |= {form.format(name, place) for name in classes for place in classes}
    draws, engine = random.Random(0), started()
    for _ in range(6):
        executed = set()
        for command in candidates:
            trial = engine.clone()
            trial.step(command)
            if trial.valid:
                executed.add(command)
        listed = engine.admissible_commands()
        assert set(listed) == executed
        assert list(listed) == sorted(listed)
        handling = [c for c in listed if c.split()[0] in ("grab", "open", "put", "close", "drop")]
        engine.step(draws.choice(handling or [c for c in listed if c.startswith("walk to")]))


def test_fewer_commands_can_be_listed_and_all_are_understood():
    engine = started(core=True, in_view=True)
    every = started().admissible_commands()
    listed = engine.admissible_commands()
    assert set(listed) < set(every)
    assert "walk to table" in listed
    # In the bedroom, in the fridge; only repeats another; changes nothing that a goal asks for.
    for command in ("walk to bed", "walk to milk", "run to table", "turn to table"):
        assert command in every
        assert command not in listed
        twin = engine.clone()
        twin.step(command)
        assert twin.valid


def test_a_copy_goes_its_own_way():
    engine = started()
    engine.step("walk to fridge")
    twin = engine.clone()
    twin.step("open fridge")
    twin.step("grab milk")
    assert (twin.won, engine.won) == (True, False)
    assert twin.performed != engine.performed
    engine.step("open fridge")
    assert engine.step("grab milk") == twin.clone().step("turn to milk")


def test_the_graph_mode_tells_room_and_ids_from_the_start():
    engine = TextEngine(observation="graph")
    assert engine.reset(milk()) == "The task is Fetch milk (open fridge, grab milk).\nYou are in kitchen (1)."
    assert engine.step(f"walk to fridge ({flat.FRIDGE})").splitlines()[1] == "fridge (5): CLOSED, OFF, PLUGGED_IN"
    assert engine.step("fly") == "Nothing happens."


def test_a_repaired_find_walks():
    # The original's FIND asks for nearness that it should bring about.
    kept, mended = started(), started(repaired=True)
    for engine in (kept, mended):
        engine.step("find bed")
    assert (kept.valid, mended.valid) == (False, True)


FAR_APPLE = 70


def two_apples() -> TextEngine:
    """The flat with a second apple, in the bedroom; "apple" means the first one, which has the lower id."""
    graph = flat.graph()
    graph["nodes"].append({**graph["nodes"][8], "id": FAR_APPLE})
    graph["edges"].append({"from_id": FAR_APPLE, "relation_type": "INSIDE", "to_id": flat.BEDROOM})
    engine = TextEngine()
    engine.reset(read_task(milk_record(), graph, "two apples"))
    return engine


def test_what_an_executed_command_meant_is_remembered_and_what_a_refused_one_meant_is_not():
    engine = two_apples()
    engine.step(f"grab apple ({FAR_APPLE})")
    assert not engine.valid
    engine.step("walk to apple")
    assert engine.world.near[0] == flat.TABLE  # on which the near apple lies
    engine.step(f"walk to apple ({FAR_APPLE})")
    engine.step("walk to kitchen")
    engine.step("walk to apple")
    assert FAR_APPLE in engine.world.near


def test_a_copy_remembers_for_itself():
    engine = two_apples()
    twin = engine.clone()
    twin.step(f"walk to apple ({FAR_APPLE})")
    engine.step("walk to apple")
    assert flat.APPLE in engine.world.near
    assert FAR_APPLE in twin.world.near


def test_class_names_with_capitals_and_spaces_are_written_in_commands_as_these_are_read():
    record = milk_record()
    for node in record["init_graph"]["nodes"]:
        if node["id"] != flat.ME:
            node["class_name"] = node["class_name"].replace("_", " ").title()
    plain, engine = TextEngine(), TextEngine()
    plain.reset(milk())
    engine.reset(read_task(record, record["init_graph"], "milk"))
    for command in ("walk to fridge", "open fridge", "grab milk"):
        assert engine.admissible_commands() == plain.admissible_commands()
        engine.step(command)
        plain.step(command)
        assert engine.valid
    assert engine.won


@pytest.mark.parametrize(
    "class_name",
    ["lamp (2)", "lamp: red", "lamp\tand\nbulb", "lamp on table", " lamp ", "LÄMP\u0130", "band-aids", "(5)"],
)
def test_whatever_a_class_is_called_its_commands_are_listed_as_they_are_read(class_name):
    record = milk_record()
    node = next(node for node in record["init_graph"]["nodes"] if node["id"] == flat.APPLE)
    node["class_name"] = class_name
    engine = TextEngine()
    engine.reset(read_task(record, record["init_graph"], "milk"))
    plain = started()
    name = engine.naming.name_of(engine.task.apartment.numbers[flat.APPLE], engine.world.world)
    for command in ("walk to apple", "grab apple", "put apple on table"):
        told = command.replace("apple", str(name))
        assert told in engine.admissible_commands()
        engine.step(told)
        plain.step(command)
        assert engine.valid
        assert len(engine.admissible_commands()) == len(plain.admissible_commands())
