from agentgym_prm.envs.alfworld.memory import RoomMemory

INTRO = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see a "
    "fridge 1, a desk 1, and a sinkbasin 1.\n\nYour task is to: put a cool mug in desk."
)


def after(*observations, admissible=("look",)):
    return RoomMemory.of([*((text, ()) for text in (INTRO, *observations[:-1])), (observations[-1], admissible)])


def test_the_opening_text_names_the_places():
    memory = RoomMemory.of([(INTRO, ("go to desk 1", "go to fridge 1", "look"))])
    assert [(place.name, place.status) for place in memory.places.values()] == [
        ("fridge 1", "unseen"), ("desk 1", "unseen"), ("sinkbasin 1", "unseen"),
    ]  # fmt: skip
    assert memory.offers == {"go to": ["desk 1", "fridge 1"], "": ["look"]}
    assert memory.here == ()


def test_doors_and_contents_follow_the_texts():
    closed = "You arrive at fridge 1. The fridge 1 is closed."
    opened = "You open the fridge 1. The fridge 1 is open. In it, you see a mug 2, and a egg 1."
    assert after(closed).places["fridge 1"].status == "closed"
    place = after(closed, opened).places["fridge 1"]
    assert (place.status, place.contents) == ("open", ["mug 2", "egg 1"])
    place = after(closed, opened, "You close the fridge 1.").places["fridge 1"]
    assert (place.status, place.contents) == ("closed", ["mug 2", "egg 1"])
    nothing = after("You arrive at desk 1. On the desk 1, you see nothing.").places["desk 1"]
    assert (nothing.status, nothing.contents) == ("open", [])


def test_what_is_taken_treated_and_put_moves():
    desk = "You arrive at desk 1. On the desk 1, you see a mug 1, and a pen 1."
    taken = "You pick up the mug 1 from the desk 1."
    memory = after(desk, taken, "You heat the mug 1 using the microwave 1.")
    assert (memory.held, memory.places["desk 1"].contents, memory.states) == ("mug 1", ["pen 1"], {"mug 1": ["hot"]})
    clean, heat = "You clean the mug 1 using the sinkbasin 1.", "You heat the mug 1 using the microwave 1."
    cool, move = "You cool the mug 1 using the fridge 1.", "You move the mug 1 to the sinkbasin 1."
    memory = after(desk, taken, clean, heat, cool, move)
    assert (memory.held, memory.places["sinkbasin 1"].contents) == ("", ["mug 1"])
    assert memory.states == {"mug 1": ["clean", "cool"]}
    assert after(desk, taken, "You put the mug 1 in/on the fridge 1.").places["fridge 1"].contents == ["mug 1"]


def test_where_the_agent_stands_is_what_it_may_examine_but_not_what_it_holds():
    memory = after("You pick up the mug 1 from the desk 1.", admissible=("examine desk 1", "examine mug 1", "look"))
    assert memory.here == ("desk 1",)


def test_a_refused_command_changes_nothing():
    assert after("Nothing happens.").places == RoomMemory.of([(INTRO, ())]).places


def test_of_places_side_by_side_the_commands_tell_what_the_text_leaves_out():
    desk = "You arrive at desk 1. On the desk 1, you see a desklamp 1, and a pen 1."
    here = ("examine desk 1", "examine fridge 1", "open fridge 1", "take pen 1 from desk 1")
    places = after(desk, admissible=here).places
    # A lamp is not offered to be taken, but it was described.
    assert (places["desk 1"].status, places["desk 1"].contents) == ("open", ["desklamp 1", "pen 1"])
    assert places["fridge 1"].status == "closed"
    here = ("examine desk 1", "examine sinkbasin 1", "take mug 1 from sinkbasin 1", "take pen 1 from desk 1")
    places = after(desk, admissible=here).places
    assert (places["sinkbasin 1"].status, places["sinkbasin 1"].contents) == ("open", ["mug 1"])


def test_with_a_full_hand_places_side_by_side_stay_unseen():
    texts = ("On the desk 1, you see a pen 1.", "You pick up the pen 1 from the desk 1.")
    places = after(*texts, admissible=("examine desk 1", "examine pen 1", "examine sinkbasin 1")).places
    assert places["sinkbasin 1"].status == "unseen"


def test_the_first_of_a_class_is_the_lowest_number():
    intro = "Looking quickly around you, you see a drawer 10, a drawer 9, and a desk 1."
    memory = RoomMemory.of([(intro, ())])
    assert memory.firsts("unseen") == ["desk 1", "drawer 9"]
    assert memory.firsts("open") == []
