"""What each vendor is sent, and how its replies are read: real SDKs against the stub."""

import pytest

from agentgym_prm.errors import MissingKeyError, UnknownNameError, UsageError
from agentgym_prm.inference import Budget, ChatRequest, RetryPolicy, Usage, connect
from agentgym_prm.inference.vendors import is_model_name, vendor_of
from tests.inference.stub import MODELS, Fault, Stub

CONVERSATION = (
    ("system", "Be brief."),
    ("user", "One?"),
    ("assistant", "1"),
    ("user", "Two?"),
    ("assistant", " "),
    ("user", "Three?"),
)


def said(asked, serial):
    return f"reply {serial}"


def model(stub, name, **settings):
    vendor = name.partition(":")[0]
    return connect(name, base_url=stub.url(vendor), timeout=5.0, **settings)


def test_the_key_goes_where_the_vendor_wants_it_and_the_path_names_the_model(vendor, monkeypatch):
    monkeypatch.setenv(
        {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}[vendor], "k1"
    )
    with Stub(reply=said, key="k1") as stub:
        model(stub, f"{vendor}:m").complete([ChatRequest((("user", "x"),))])
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}.get(vendor, "models/m:generateContent")
    assert stub.asked[0].path.endswith(path)


def test_the_conversation_is_sent_in_the_vendors_own_form(vendor):
    with Stub(reply=said) as stub:
        model(stub, f"{vendor}:{MODELS[vendor]}").complete([ChatRequest(CONVERSATION)])
    body = stub.asked[0].body
    if vendor == "openai":
        assert [(each["role"], each["content"]) for each in body["messages"]] == list(CONVERSATION)
    elif vendor == "anthropic":
        assert body["system"] == "Be brief."
        # An empty message would be refused; what stands beside each other counts as one turn.
        assert [(each["role"], each["content"]) for each in body["messages"]] == [
            ("user", "One?"), ("assistant", "1"), ("user", "Two?"), ("user", "Three?"),
        ]  # fmt: skip
    else:
        assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
        assert [(each["role"], each["parts"]) for each in body["contents"]] == [
            ("user", [{"text": "One?"}]),
            ("model", [{"text": "1"}]),
            ("user", [{"text": "Two?"}]),
            ("user", [{"text": "Three?"}]),
        ]


REQUEST = ChatRequest((("user", "x"),), temperature=0.3, max_tokens=77, stop=("END",), draw=(1,))


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("openai:gpt-4o-mini", {"temperature": 0.3, "max_tokens": 77, "stop": ["END"], "seed": REQUEST.seed(0)}),
        ("openai:gpt-4.1", {"temperature": 0.3, "max_tokens": 77, "stop": ["END"], "seed": REQUEST.seed(0)}),
        ("openai:Qwen/Qwen3-4B", {"temperature": 0.3, "max_tokens": 77, "stop": ["END"], "seed": REQUEST.seed(0)}),
        ("openai:gpt-5-chat-latest", {"temperature": 0.3, "max_tokens": 77, "stop": ["END"], "seed": REQUEST.seed(0)}),
        ("openai:gpt-5.3-chat-latest", {"max_completion_tokens": 77}),
        ("openai:o3", {"max_completion_tokens": 77}),
        ("openai:o4-mini", {"max_completion_tokens": 77}),
        ("openai:gpt-5-mini", {"max_completion_tokens": 77}),
        ("openai:gpt-5.4-nano-2026-03-17", {"max_completion_tokens": 77}),
        ("openai:gpt-6.1-terra", {"max_completion_tokens": 77}),
        ("anthropic:claude-opus-5-5", {"max_tokens": 77, "stop_sequences": ["END"]}),
        ("anthropic:claude-haiku-4-5", {"max_tokens": 77, "stop_sequences": ["END"]}),
    ],
)
def test_parameters_follow_the_table_of_models(name, sent, caplog):
    pytest.importorskip(name.partition(":")[0], reason="needs the vendors' SDKs: pip install -e '.[api]'")
    with Stub(reply=said) as stub:
        model(stub, name).complete([REQUEST, REQUEST])
    for asked in stub.asked:
        assert {key: value for key, value in asked.body.items() if key not in ("model", "messages")} == sent
    # What is left out is said, once.
    told = [record.message for record in caplog.records if "temperature" in record.message]
    assert len(told) == ("temperature" not in sent)


def test_gemini_takes_all_parameters_in_its_configuration():
    pytest.importorskip("google.genai", reason="needs the vendors' SDKs: pip install -e '.[api]'")
    with Stub(reply=said) as stub:
        model(stub, "gemini:gemini-2.5-flash").complete([REQUEST])
    assert stub.asked[0].body["generationConfig"] == {
        "temperature": 0.3, "maxOutputTokens": 77, "stopSequences": ["END"], "seed": REQUEST.seed(0),
    }  # fmt: skip


def test_a_temperature_of_one_is_what_models_without_the_parameter_have(caplog):
    for name in ("openai:o3", "anthropic:claude-opus-5-5"):
        vendor = connect(name, base_url="http://localhost:1").vendor
        assert vendor.left_out(ChatRequest((("user", "x"),), temperature=1.0)) == []
        assert vendor.left_out(ChatRequest((("user", "x"),), temperature=0.0)) == ["temperature"]


def test_samples_are_one_request_where_the_api_takes_n_and_one_each_elsewhere(vendor):
    request = ChatRequest((("user", "x"),), n=5, draw=(3,))
    with Stub(reply=said) as stub:
        (completions,) = model(stub, f"{vendor}:{MODELS[vendor]}").complete([request])
    assert sorted(completion.text for completion in completions) == [f"reply {serial}" for serial in range(5)]
    assert [asked.body.get("n") for asked in stub.asked] == ([5] if vendor == "openai" else [None] * 5)
    if vendor == "gemini":
        seeds = {asked.body["generationConfig"]["seed"] for asked in stub.asked}
        assert seeds == {request.seed(sample) for sample in range(5)}
        assert len(seeds) == 5


def test_reasoning_models_of_openai_are_asked_for_each_sample(openai_sdk):
    with Stub(reply=said) as stub:
        model(stub, "openai:o3").complete([ChatRequest((("user", "x"),), n=3)])
    assert [asked.body.get("n") for asked in stub.asked] == [None] * 3


def test_a_server_that_gives_fewer_samples_than_asked_for_is_asked_again(openai_sdk):
    with Stub(reply=said) as stub:
        stub.choices = 2
        (completions,) = model(stub, "openai:m").complete([ChatRequest((("user", "x"),), n=5)])
    assert [asked.body.get("n") for asked in stub.asked] == [5, 3, None]
    assert [completion.text for completion in completions] == [f"reply {serial}" for serial in range(5)]


def test_usage_is_read_as_each_vendor_counts_it(vendor):
    with Stub(reply=said) as stub:
        asked = model(stub, f"{vendor}:{MODELS[vendor]}")
        ((completion,),) = asked.complete([ChatRequest((("user", "x"),))])
    # The first reply says 100 prompt tokens, 10 of them cached, and 1 completion token.
    dollars = {
        "openai": 90 * 0.15 + 10 * 0.075 + 0.6,
        "anthropic": 90 * 1.0 + 10 * 0.1 + 5.0,
        "gemini": 90 * 0.3 + 10 * 0.03 + 2.5,
    }[vendor]
    expected = Usage(100, 1, 10, requests=1, retries=0, cost=pytest.approx(dollars / 1e6))
    assert completion.usage == expected
    assert asked.budget.spent == expected


def test_usage_of_several_samples_adds_up_to_that_of_their_request(openai_sdk):
    with Stub(reply=said) as stub:
        ((*completions,),) = model(stub, "openai:gpt-4o-mini").complete([ChatRequest((("user", "x"),), n=3)])
    total = sum((completion.usage for completion in completions), Usage())
    assert (total.prompt_tokens, total.completion_tokens, total.requests) == (100, 3, 1)


def test_a_server_that_tells_no_tokens_leaves_the_cost_unknown_and_uses_up_the_budget_all_the_same(openai_sdk):
    with Stub(reply=said) as stub:
        stub.count_usage = False
        asked = model(stub, "openai:gpt-4o-mini", budget=Budget(tokens=1000))
        request = ChatRequest((("user", "x"),), max_tokens=300)
        ((completion,),) = asked.complete([request])
        assert completion.usage == Usage(requests=1, cost=None)
        # At most 300 tokens of reply, and 8 for the message.
        assert asked.budget.spent.tokens == 308


@pytest.mark.parametrize(
    ("name", "field", "reason", "ours"),
    [
        ("openai", ("choices", 0, "finish_reason"), "stop", "end"),
        ("openai", ("choices", 0, "finish_reason"), "length", "length"),
        ("openai", ("choices", 0, "finish_reason"), "content_filter", "refusal"),
        ("anthropic", ("stop_reason",), "stop_sequence", "stop"),
        ("anthropic", ("stop_reason",), "max_tokens", "length"),
        ("anthropic", ("stop_reason",), "refusal", "refusal"),
        ("anthropic", ("stop_reason",), "pause_turn", "pause_turn"),
        ("gemini", ("candidates", 0, "finishReason"), "MAX_TOKENS", "length"),
        ("gemini", ("candidates", 0, "finishReason"), "SAFETY", "refusal"),
        ("gemini", ("candidates", 0, "finishReason"), "OTHER", "other"),
    ],
)
def test_stop_reasons_have_one_name(name, field, reason, ours, monkeypatch):
    from tests.inference import stub as stubs

    sdk = {"gemini": "google.genai"}.get(name, name)
    pytest.importorskip(sdk, reason="needs the vendors' SDKs: pip install -e '.[api]'")
    write = stubs._BODIES[name]

    def body(told, count_usage):
        whole = write(told, count_usage)
        *outer, last = field
        place = whole
        for key in outer:
            place = place[key]
        place[last] = reason
        return whole

    monkeypatch.setitem(stubs._BODIES, name, body)
    with Stub(reply=said) as stub:
        ((completion,),) = model(stub, f"{name}:m").complete([ChatRequest((("user", "x"),))])
    assert (completion.text, completion.stop_reason) == ("reply 0", ours)


def test_a_prompt_that_gemini_blocks_is_a_refusal_and_not_asked_again(monkeypatch):
    from tests.inference import stub as stubs

    pytest.importorskip("google.genai", reason="needs the vendors' SDKs: pip install -e '.[api]'")
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5}}
    monkeypatch.setitem(stubs._BODIES, "gemini", lambda told, count_usage: blocked)
    with Stub(reply=said) as stub:
        ((completion,),) = model(stub, "gemini:m").complete([ChatRequest((("user", "x"),))])
    assert (completion.text, completion.stop_reason, len(stub.asked)) == ("", "refusal", 1)


@pytest.mark.parametrize("code", ["content_filter", "invalid_prompt"])
def test_a_prompt_that_openai_filters_is_a_refusal_and_ends_no_run(openai_sdk, code):
    body = {"error": {"message": "your prompt was flagged", "type": "invalid_request_error", "code": code}}
    with Stub(lambda number: Fault("status", 400, body=body)) as stub:
        ((completion,),) = model(stub, "openai:m").complete([ChatRequest((("user", "x"),))])
    assert (completion.text, completion.stop_reason, len(stub.asked)) == ("", "refusal", 1)
    assert (completion.usage.requests, completion.usage.tokens) == (1, 0)


def test_stop_texts_that_a_model_does_not_take_are_cut_off_here(openai_sdk):
    with Stub(reply=lambda asked, serial: "go east;END;go west") as stub:
        ((completion,),) = model(stub, "openai:o3").complete([ChatRequest((("user", "x"),), stop=("west", "END"))])
    assert "stop" not in stub.asked[0].body
    assert (completion.text, completion.stop_reason) == ("go east;", "stop")


def test_thoughts_are_no_part_of_the_text(vendor):
    with Stub(reply=said) as stub:
        ((completion,),) = model(stub, f"{vendor}:m").complete([ChatRequest((("user", "x"),))])
    assert completion.text == "reply 0"


def test_the_environments_base_url_is_used_where_none_is_given(vendor, monkeypatch):
    variables = {"openai": "OPENAI", "anthropic": "ANTHROPIC", "gemini": "GOOGLE_GEMINI"}
    monkeypatch.setenv(
        {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}[vendor], "k1"
    )
    with Stub(reply=said) as stub:
        monkeypatch.setenv(f"{variables[vendor]}_BASE_URL", stub.url(vendor) + "/")
        asked = connect(f"{vendor}:m")
        asked.complete([ChatRequest((("user", "x"),))])
    assert asked.vendor.base_url == stub.url(vendor)
    assert len(stub.asked) == 1


def test_gemini_stays_the_api_of_keys_whatever_the_environment_says_of_vertex(monkeypatch):
    pytest.importorskip("google.genai", reason="needs the vendors' SDKs: pip install -e '.[api]'")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    with Stub(reply=said) as stub:
        model(stub, "gemini:m").complete([ChatRequest((("user", "x"),))])
    assert stub.asked[0].path.endswith("/models/m:generateContent")
    assert "publishers" not in stub.asked[0].path


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host/v1", "http://", "http://user:word@host/v1", "http://host/v1?key=x"]
)
def test_addresses_that_are_none_or_hold_secrets_are_refused_and_secrets_not_repeated(url):
    with pytest.raises(UsageError, match="base URL") as caught:
        connect("openai:m", base_url=url)
    assert "word" not in str(caught.value).replace("password", "")


def test_names_without_a_vendor_or_of_an_unknown_one_are_refused():
    for name in ("gpt-4o", "opena:gpt-4o", "openai:", "mistral:org/model"):
        with pytest.raises(UnknownNameError, match="openai:MODEL"):
            connect(name)
        assert not is_model_name(name)
    assert is_model_name("openai:org/model:free")
    assert [vendor_of(name) for name in ("gpt-5", "claude-x", "gemini-x", "llama")] == [
        "openai", "anthropic", "gemini", None,
    ]  # fmt: skip


def test_a_missing_key_shows_before_anything_is_sent():
    with pytest.raises(MissingKeyError, match="ANTHROPIC_API_KEY"):
        connect("anthropic:claude-haiku-4-5")


def test_a_budget_in_money_needs_a_known_price():
    with pytest.raises(UsageError, match="price table"):
        connect("openai:somebodys", base_url="http://localhost:1", budget=Budget(cost=1.0))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="concurrency"):
        connect("openai:m", base_url="http://localhost:1", concurrency=0)
    with pytest.raises(ValueError, match="timeout"):
        connect("openai:m", base_url="http://localhost:1", timeout=0)


def test_a_text_with_half_a_character_is_no_crash(vendor):
    with Stub(reply=said) as stub:
        asked = model(stub, f"{vendor}:m", retry=RetryPolicy(attempts=1))
        ((completion,),) = asked.complete([ChatRequest((("user", "half \ud83d"),))])
    assert completion.text == "reply 0"
