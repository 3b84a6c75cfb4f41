from functools import partial, wraps

import pytest

from agentgym_prm.envs.wiki_search.tools import NOTHING_FOUND, Tool, describe, wiki_search_over
from tests.envs.wiki_search.passages import PASSAGES, SharedWords


def convert(amount: float, unit: str = "km", *, exact: bool = False) -> str:
    """Converts a length
    into metres.

    Args:
        amount: how much
        unit: of which unit

    Returns:
        the number of metres

    Examples:
        {"amount": 3, "unit": "mile"}
    """
    if unit == "parsec":
        raise KeyError(unit)
    if unit == "cable":
        raise OSError("the table is gone")
    return f"{amount * 1000} m" + " exactly" * exact


def bare(first, second=None):
    return first


def test_the_search_tool_is_a_function_of_what_it_searches():
    search = wiki_search_over(SharedWords(), k=2)
    first, second = PASSAGES[1], PASSAGES[2]
    assert search("mayor") == f"{first.title}\n{first.text}"
    assert search("river") == f"{first.title}\n{first.text}\n\n{second.title}\n{second.text}"
    assert search("zebra") == NOTHING_FOUND


def test_descriptions_are_made_of_signature_and_docstring():
    assert describe([convert, bare]) == (
        "convert: Converts a length into metres.\n"
        "Arguments:\n"
        "  - amount (float): how much\n"
        "  - unit (str, default 'km'): of which unit\n"
        "  - exact (bool, default False)\n"
        "Returns: str: the number of metres\n"
        "Example:\n"
        '  {"name": "convert", "args": {"amount": 3, "unit": "mile"}}\n'
        "\n"
        "bare: \n"
        "Arguments:\n"
        "  - first (any)\n"
        "  - second (any, default None)\n"
        "Returns: any\n"
        "Example:\n"
        '  {"name": "bare", "args": {"first": "…"}}'
    )


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({"amount": 3}, ""),
        ({"amount": 2.5, "unit": "mile", "exact": True}, ""),
        ({}, "convert() missing 1 required positional argument: 'amount'"),
        ({"amount": 3, "to": "m"}, "convert() got an unexpected keyword argument 'to'"),
        ({"amount": "3"}, "convert() argument 'amount' must be float, not str"),
        ({"amount": 3, "unit": None}, "convert() argument 'unit' must be str, not NoneType"),
        ({"amount": 3, "exact": 1}, "convert() argument 'exact' must be bool, not int"),
        (None, "convert() argument after ** must be a mapping, not NoneType"),
    ],
)
def test_arguments_are_checked_against_the_signature(args, complaint):
    assert Tool.of(convert).complaint(args) == complaint


def test_a_function_that_stands_for_another_is_not_called_to_see_what_is_wrong():
    called = []

    @wraps(convert)
    def counted(*args, **kwargs):
        called.append(kwargs)
        return convert(*args, **kwargs)

    assert Tool.of(counted).complaint({}) == "convert() missing a required argument: 'amount'"
    assert Tool.of(counted).complaint({"amount": 3}) == ""
    assert called == []
    assert Tool.of(counted).call({"amount": 3}) == "3000 m"


def test_what_arguments_are_to_blame_for_is_an_answer_and_anything_else_is_raised():
    tool = Tool.of(convert)
    assert tool.call({"amount": 3}) == "3000 m"
    assert tool.call({"amount": 3, "unit": "parsec"}) == "Error: 'parsec'"
    with pytest.raises(OSError, match="the table is gone"):
        tool.call({"amount": 3, "unit": "cable"})
    assert Tool.of(bare).call({"first": None}) == "None"


def test_what_has_no_name_is_no_tool():
    with pytest.raises(TypeError, match=r"a tool must be a named function, got functools\.partial"):
        Tool.of(partial(convert, 3))
    with pytest.raises(TypeError, match="a tool must be a named function, got 'convert'"):
        Tool.of("convert")
