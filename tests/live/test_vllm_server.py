"""A vLLM server on this machine (``make live``): its chat, Anthropic's protocol, token ids, and reloaded weights."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import pytest

pytest.importorskip("vllm", reason="needs vLLM: make live")

from agentgym_prm.agents.chat_api import ChatAgent
from agentgym_prm.agents.vllm import VLLMServerAgent
from agentgym_prm.errors import ServiceError
from agentgym_prm.inference import ChatRequest, connect
from tests.live.small_model import local_logprobs, make_adapter, make_model, opening_histories, play, players

pytestmark = pytest.mark.live
MINUTES = 10
# float32 on both sides, in another order of sums.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory):
    """Of a server in float32, with what reloading needs switched on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "server.log"
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)),
        *("--served-model-name", "small", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "16"),
        *("--logprobs-mode", "processed_logprobs", "--enable-lora", "--max-lora-rank", "8"),
    ]
    switches = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("w") as file:
        server = subprocess.Popen(
            command,
            env={**os.environ, **switches, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_until_up(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def wait_until_up(server, address, log):
    for _ in range(60 * MINUTES):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address):
                return
        except OSError:
            time.sleep(1)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture
def pair(url, folder):
    """Makes the served agent and the local one, with the same settings."""

    def make(**options):
        local, tokenizer, stop_ids = players(folder, **options)
        options = {"max_new_tokens": 16, "stop_ids": stop_ids, **options}
        return VLLMServerAgent(url, "small", tokenizer, local.prompt, **options), local

    return make


def test_episodes_at_temperature_zero_are_the_local_agents(pair):
    served, local = pair(temperature=0.0)
    turns = 0
    for theirs, ours in zip(play(served), play(local), strict=True):
        assert [step.observation for step in theirs.steps] == [step.observation for step in ours.steps]
        for one, other in zip(theirs.steps, ours.steps, strict=True):
            assert replace(one.action, logprobs=()) == replace(other.action, logprobs=())
            assert one.action.logprobs == pytest.approx(other.action.logprobs, abs=TOLERANCE)
            turns += 1
    assert turns > 10


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_four_candidates_have_the_local_models_logprobs_and_come_again(pair, temperature):
    served, local = pair(temperature=temperature)
    histories = opening_histories()
    groups = served.sample(histories, n=4)
    assert len({action.token_ids for action in groups[0]}) > 1
    for history, group in zip(histories, groups, strict=True):
        prompt = local.encoder.history(history).token_ids
        for action in group:
            read = local_logprobs(local, prompt, action.token_ids)
            assert action.logprobs == pytest.approx(read, abs=TOLERANCE)
            assert action.stop_reason in ("end", "length")
            assert (action.stop_reason == "end") == (action.token_ids[-1] in local.encoder.chat.stop_ids)
    again = served.sample(histories[::-1], n=4)[::-1]
    assert [[a.token_ids for a in group] for group in again] == [[a.token_ids for a in group] for group in groups]


def test_stop_texts_end_a_reply_as_they_do_here(pair):
    served, local = pair(temperature=0.0, stop=("countertop", "cabinet", "fridge", "drawer"))
    for theirs, ours in zip(served.act(opening_histories()), local.act(opening_histories()), strict=True):
        assert (theirs.token_ids, theirs.stop_reason, theirs.reply) == (ours.token_ids, ours.stop_reason, ours.reply)


def test_chat_with_several_samples_a_request(url):
    model = connect("openai:small", base_url=url)
    request = ChatRequest((("user", "look"),), n=4, temperature=1.0, max_tokens=8, draw=(1, 2))
    ((*completions,),) = model.complete([request])
    assert len(completions) == 4
    assert sum(each.usage.completion_tokens for each in completions) <= 4 * 8
    assert all(each.usage.prompt_tokens for each in completions)
    assert [[each.text for each in completions]] == [[each.text for each in model.complete([request])[0]]]


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_chat_agents_play_through_both_protocols(url, name):
    address = url if name == "openai" else url.removesuffix("/v1")
    model = connect(f"{name}:small", base_url=address)
    episodes = play(ChatAgent(model, "bare", max_tokens=12), 2)
    actions = [step.action for episode in episodes for step in episode.steps]
    assert actions
    assert all(action.usage["completion_tokens"] > 0 for action in actions)
    assert all(action.stop_reason in ("end", "length") for action in actions)


def test_a_model_that_is_not_served_is_a_clear_error(url, pair):
    with pytest.raises(ServiceError, match="404"):
        connect("openai:other", base_url=url).complete([ChatRequest((("user", "x"),))])
    served, _ = pair(temperature=0.0)
    served._base = served._model = "other"
    with pytest.raises(ServiceError, match="404"):
        served.act(opening_histories())


def test_weights_are_reloaded_in_place_and_adapters_too(pair, folder, tmp_path):
    """Another model, then an adapter on the first one: each time the replies are those of the model loaded here."""
    other = make_model(tmp_path / "other", epochs=1)
    served, local = pair(temperature=0.0)
    first = [action.token_ids for action in local.act(opening_histories())]
    for loaded in (other, folder, make_adapter(folder, tmp_path / "adapter"), folder):
        expected, _, _ = players(loaded, temperature=0.0)
        served.reload(loaded)
        for theirs, ours in zip(served.act(opening_histories()), expected.act(opening_histories()), strict=True):
            assert theirs.token_ids == ours.token_ids
            assert theirs.logprobs == pytest.approx(ours.logprobs, abs=TOLERANCE)
        if loaded != folder:
            assert [action.token_ids for action in expected.act(opening_histories())] != first
