import time

import pytest

from agentgym_prm.envs.parsing import REPLY_FORMATS, ParsedReply, home_command, household_command, parse_reply
from agentgym_prm.errors import UnknownNameError

TOOL = '<tool>{"name": "wiki_search", "args": {"query": "Oslo"}}</tool>'


@pytest.mark.parametrize(
    ("reply_format", "reply", "command", "reasoning"),
    [
        ("bare", "look", "look", ""),
        ("bare", "\n  Go to Fridge 1.  \nand then open it", "go to fridge 1", ""),
        ("reason_action", "REASON:\nIt is cold.\nVery.\nACTION:\nheat mug 1", "heat mug 1", "It is cold.\nVery."),
        ("reason_action", "reason: x\naction: look", "look", "x"),
        ("reason_action", "ACTION: look", "look", ""),
        ("reason_action", "REASON:\nACTION: open a\nno\nACTION:\nput Mug 1 in/on desk!", "put mug 1 in/on desk", ""),
        ("reason_action", "REASON:\nmy action: none\nACTION:\nlook", "look", "my action: none"),
        ("thought_action", "Thought: look around\nAction: look\nObservation: …", "look", "look around"),
        ("xml", f"<reasoning>Ask it.</reasoning>\n{TOOL}", TOOL, "Ask it."),
        ("xml", "<answer>Oslo</answer>", "<answer>Oslo</answer>", ""),
        ("xml", f"{TOOL}<answer>Oslo</answer>", "<answer>Oslo</answer>", ""),
        ("xml", f"<answer>Oslo</answer>{TOOL}<answer>Bergen</answer>", "<answer>Oslo</answer>", ""),
        ("xml", f"<reasoning>No <answer>.</reasoning>{TOOL} {TOOL.replace('Oslo', 'Bergen')}", TOOL, "No <answer>."),
        ("xml", "<tool>look</tool>", "<tool>look</tool>", ""),  # no JSON: the environment says so
        ("xml", '<tool>["wiki_search"]</tool>', '<tool>["wiki_search"]</tool>', ""),
        ("xml", "<answer> </answer>", "<answer> </answer>", ""),
        ("search_r1", "<think>Ask.\n</think>\n<search> Oslo </search>", "<search> Oslo </search>", "Ask."),
        ("search_r1", "<search>a</search><answer>b</answer>", "<search>a</search>", ""),
        ("search_r1", "<answer>a</answer><search>b</search>", "<answer>a</answer>", ""),
        ("search_r1", "<answer>a <search>b</search></answer>", "<search>b</search>", ""),  # cut after the search
    ],
)  # fmt: skip
def test_well_formed_replies(reply_format, reply, command, reasoning):
    cleaner = "verbatim" if reply_format in ("xml", "search_r1") else "household"
    assert parse_reply(reply, reply_format, cleaner) == ParsedReply(command, reasoning)


@pytest.mark.parametrize(
    ("reply_format", "reply", "error"),
    [
        ("bare", " \n ", "empty"),
        ("bare", "…!?", "nothing is left"),
        ("reason_action", "", "no line that starts with ACTION"),
        ("reason_action", "REASON:\nlook", "no line that starts with ACTION"),
        ("reason_action", "the ACTION: look", "no line that starts with ACTION"),
        ("reason_action", "REASON: x\nACTION:\n \n", "nothing follows"),
        ("thought_action", "Thought: look", "no line that starts with Action"),
        ("xml", "look", "neither"),
        ("xml", "<tool>{}", "neither <tool>…</tool> nor <answer>…</answer>"),
        ("xml", "</tool>{}<tool>", "neither"),
        ("search_r1", "<search>Oslo", "neither <search>…</search> nor <answer>…</answer>"),
        ("search_r1", "</search><answer>Oslo</answer>", "neither"),  # cut after the stray end of a search
    ],
)
def test_malformed_replies_are_data(reply_format, reply, error):
    parsed = parse_reply(reply, reply_format, "household")
    assert parsed.command == ""
    assert error in parsed.error


@pytest.mark.parametrize("tag", ["answer", "tool", "search"])
def test_a_hundred_thousand_tags_without_an_end_are_read_at_once(tag):
    """A regular expression would look for the end anew from each of them."""
    started = time.perf_counter()
    for reply_format in ("xml", "search_r1"):
        assert parse_reply(f"<{tag}>" * 100_000, reply_format).command == ""
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("name", ["bare", "reason_action", "thought_action"])
def test_parsing_inverts_rendering(name):
    reply = REPLY_FORMATS[name].render("go to fridge 1", "" if name == "bare" else "It may be cold.")
    assert parse_reply(reply, name) == ParsedReply("go to fridge 1", "" if name == "bare" else "It may be cold.")


def test_commands_are_kept_verbatim_where_letter_case_matters():
    assert parse_reply("ACTION:\nsearch[Red Shoes]", "reason_action").command == "search[Red Shoes]"
    assert household_command("Put Mug_1 in/on\tDesk 1 (now)") == "put mug1 in/ondesk 1 now"


def test_hyphens_stay_within_the_words_of_a_home_and_nowhere_else():
    assert home_command("Put band-aids (12) on shoe-shine_kit.") == "put band-aids (12) on shoe-shine_kit"
    assert home_command("- grab cup -") == home_command("--grab -cup") == "grab cup"


def test_unknown_formats_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'reason_action'"):
        parse_reply("look", "reason-action")
    with pytest.raises(UnknownNameError, match="household"):
        parse_reply("look", "bare", "house")
