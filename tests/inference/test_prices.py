import json

import pytest

from agentgym_prm.errors import UsageError
from agentgym_prm.inference import Price, Prices, Usage


def test_prompt_tokens_out_of_the_apis_cache_have_their_own_price():
    usage = Usage(prompt_tokens=1000, completion_tokens=200, cached_tokens=400)
    # 600 x 2 + 400 x 0.5 + 200 x 10 = 3,400 millionths.
    assert Price(2.0, 10.0, 0.5).cost(usage) == pytest.approx(0.0034)
    # Without one they cost what others do: 1,000 x 2 + 200 x 10.
    assert Price(2.0, 10.0).cost(usage) == pytest.approx(0.004)


def test_an_unknown_model_has_no_cost_rather_than_none():
    assert Prices().priced("somebodys-model", Usage(prompt_tokens=5)).cost is None
    assert Prices({"somebodys-model": Price(0.0, 0.0)}).priced("somebodys-model", Usage(prompt_tokens=5)).cost == 0.0


@pytest.mark.parametrize(
    ("model", "same"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-haiku-4-5-latest", "claude-haiku-4-5"),
    ],
)
def test_a_dated_version_costs_what_the_model_does(model, same):
    assert Prices().of(model) == Prices().of(same) is not None


@pytest.mark.parametrize(
    "model", ["gpt-4o-mini-audio-preview", "gpt-5-pro", "claude-opus-5-6", "gemini-2.5-flash-image"]
)
def test_another_model_with_the_same_beginning_is_unknown(model):
    assert Prices().of(model) is None


def test_a_file_replaces_the_table(tmp_path):
    path = tmp_path / "prices.json"
    table = {"mine": {"input": 1, "output": 2, "cached_input": 0.5}, "gpt-4o": {"input": 9, "output": 9}}
    path.write_text(json.dumps(table))
    prices = Prices.load(path)
    assert prices.of("mine") == Price(1.0, 2.0, 0.5)
    assert prices.of("gpt-4o") == Price(9.0, 9.0)
    assert prices.of("gpt-4o-mini") is None


@pytest.mark.parametrize("text", ["[]", "{", '{"m": {"input": 1}}', '{"m": {"input": "x", "output": 1}}', '{"m": 3}'])
def test_a_file_of_another_form_is_named(tmp_path, text):
    (tmp_path / "prices.json").write_text(text)
    with pytest.raises(UsageError, match=r"prices\.json must hold"):
        Prices.load(tmp_path / "prices.json")
