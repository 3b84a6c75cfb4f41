import tracemalloc

import pytest

from agentgym_prm.envs.virtualhome.commands import CORE, FORMS, Command, Name, parse_command
from agentgym_prm.envs.virtualhome.script import Action


@pytest.mark.parametrize("action", FORMS)
def test_every_form_is_read_back_as_what_was_written(action):
    names = (Name("coffee_maker", 7), Name("table"))[: action.parameters]
    assert parse_command(str(Command(action, names))) == Command(action, names)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Walk to Kitchen", "walk to kitchen"),
        ("  put coffee cup on kitchen table ", "put coffee_cup on kitchen_table"),
        ("put cup in sink", "put cup in sink"),
        ("put on shirt", "put on shirt"),
        ("put back cup", "put back cup"),
        ("pour milk into water glass", "pour milk into water_glass"),
        ("Action: grab cup", "grab cup"),
        ("stand up", "stand up"),
        ("grab cup (1001)", "grab cup (1001)"),
        ("put cup(3) on table ( 4 )", None),
        ("put cup (3) on table (4)", "put cup (3) on table (4)"),
    ],
)
def test_commands_are_read_whatever_the_case_spaces_and_what_stands_before_a_colon(text, written):
    command = parse_command(text)
    if written is None:
        assert command is not None
        assert command.names[1].id is None
    else:
        assert str(command) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("walk kitchen", "walk to kitchen"),
        ("putback cup table", "put cup on table"),
        ("switchon lamp", "switch on lamp"),
        ("standup", "stand up"),
        ("release water glass cup", "release water_glass_cup"),
        ("lookat tv (5)", "look at tv (5)"),
    ],
)
def test_a_line_without_a_form_is_read_word_by_word_as_in_the_source_system(text, written):
    assert str(parse_command(text)) == written


@pytest.mark.parametrize(
    "text", ["", "   ", "dance", "release", "grab", "putback cup", "walk kitchen table", "stand up now", "Thought:"]
)
def test_what_is_no_command_is_none(text):
    assert parse_command(text) is None


def test_a_line_that_fits_two_forms_fits_none():
    # "put {} on {}" and "put back {}" both fit; word by word there is no action PUT.
    assert parse_command("put back cup on table") is None


def test_what_two_actions_have_in_common_stands_in_core_once():
    assert Action.WALK in CORE
    assert not CORE & {Action.RUN, Action.FIND, Action.TOUCH, Action.LOOKAT}
    assert set(FORMS) >= CORE


def test_what_is_too_long_is_no_command_and_is_not_kept():
    assert parse_command(f"grab {'x' * 995}") is not None
    tracemalloc.start()
    try:
        for number in range(8):
            assert parse_command(f"grab {number} {'x' * 1_000_000}") is None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000  # one of the eight would be more
