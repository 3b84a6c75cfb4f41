import json
import sys
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.sglang import SGLangAgent
from agentgym_prm.agents.vllm import VLLMAgent, VLLMServerAgent
from agentgym_prm.decoding import beam_search
from agentgym_prm.draws import mix
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.errors import MissingDependencyError, ServiceError, UsageError
from agentgym_prm.generation import EngineGenerator, LocalGenerator
from agentgym_prm.inference.retry import RetryPolicy
from agentgym_prm.rollout import collect
from agentgym_prm.testing import ScriptedEnv, check_agent
from agentgym_prm.types import History
from tests.agents.engines import Engine, EngineServer, FakeLLM, fake_vllm
from tests.chat_models import chat_model, chat_tokenizer

pytest.importorskip("httpx2", reason="needs the HTTP client: pip install -e '.[api]'")

KINDS = ("process", "server", "sglang")
HISTORIES = [
    History("open door", "dark room", ("look",), episode=0, seed=4),
    History("take key", "you see a key , a lamp , a door and a dark room . light", ("look",), episode=1, seed=5),
    History("look", "door", ("look",), episode=2, seed=6),
]
WAYS = [["look", "open door", "take key"]]
TOLERANCE = 1e-4  # float32 against float64
QUICK = {"retry": RetryPolicy(attempts=3, first_delay=0.0), "concurrency": 4}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    for variable in ("VLLM_API_KEY", "SGLANG_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    for name, module in fake_vllm().items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def serve(request):
    servers = []

    def start(engine):
        servers.append(EngineServer(engine).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture(params=KINDS)
def make(request, serve):
    """Makes an agent of each kind in turn over an engine; ``make.kind`` says which."""

    def agent(engine=None, **options):
        engine = engine or Engine()
        options = {"prompt": "bare", "max_new_tokens": 6, **options}
        tokenizer = chat_tokenizer()
        if request.param == "process":
            return VLLMAgent(FakeLLM(engine), tokenizer, **options)
        url = serve(engine).url
        if request.param == "server":
            return VLLMServerAgent(f"{url}/v1", "m", tokenizer, server=QUICK, **options)
        return SGLangAgent(url, tokenizer, server=QUICK, **options)

    agent.kind = request.param
    return agent


def local(**options):
    return LocalAgent(chat_model(), chat_tokenizer(), **{"prompt": "bare", "max_new_tokens": 6, **options})


def adapter(folder):
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    return folder


def test_the_contract_of_agents_holds(make):
    check_agent(make(), HISTORIES)


@pytest.mark.parametrize(("stop", "ends"), [((), {"length", "end"}), (("2is", "task"), {"stop", "end"})])
def test_without_temperature_actions_are_the_local_agents(make, stop, ends):
    expected = local(temperature=0.0, stop=stop).act(HISTORIES)
    assert {action.stop_reason for action in expected} == ends
    for theirs, ours in zip(make(temperature=0.0, stop=stop).act(HISTORIES), expected, strict=True):
        assert replace(theirs, logprobs=()) == replace(ours, logprobs=())
        assert theirs.logprobs == pytest.approx(ours.logprobs, abs=TOLERANCE)


def test_episodes_without_temperature_are_the_local_agents(make):
    def episodes(agent):
        envs = TextVectorEnv(lambda: ScriptedEnv(WAYS), 2, max_episode_steps=4)
        try:
            return sorted(collect(agent, envs, [3, 4, 5]), key=lambda each: each.episode)
        finally:
            envs.close()

    options = {"temperature": 0.0, "max_new_tokens": 4}
    for theirs, ours in zip(episodes(make(**options)), episodes(local(**options)), strict=True):
        assert [step.action.token_ids for step in theirs.steps] == [step.action.token_ids for step in ours.steps]
        assert theirs.final_observation == ours.final_observation


def test_logprobs_are_under_the_distribution_that_is_drawn_from(make):
    agent = make(temperature=0.5)
    for history, (action,) in zip(HISTORIES, agent.sample(HISTORIES), strict=True):
        prompt = agent.encoder.history(history).token_ids
        # The same tokens, read by one forward pass at the same temperature.
        with torch.no_grad():
            logits = chat_model()(input_ids=torch.tensor([[*prompt, *action.token_ids]])).logits[0].double() / 0.5
        read = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
        expected = [float(row[token]) for row, token in zip(read, action.token_ids, strict=True)]
        assert action.logprobs == pytest.approx(expected, abs=TOLERANCE)
        assert action.usage["temperature"] == 0.5


def test_each_candidate_has_a_seed_of_its_own_that_depends_on_nothing_else(make):
    engine = Engine()
    agent = make(engine, seed=9)
    (alone,) = agent.sample([HISTORIES[1]], n=1)
    asked = len(engine.log)
    groups = agent.sample(HISTORIES, n=3)
    field = "sampling_seed" if make.kind == "sglang" else "seed"
    seeds = [body.get("sampling_params", body)[field] for _, body in engine.log[asked:]]
    expected = [mix(9, h.seed, h.episode, 0, candidate) % 2**31 for h in HISTORIES for candidate in range(3)]
    assert sorted(seeds) == sorted(expected)
    assert len(set(seeds)) == 9
    assert groups[1][0] == alone[0]
    assert groups == make(seed=9).sample(HISTORIES, n=3)
    assert groups != make(seed=10).sample(HISTORIES, n=3)


def test_without_temperature_one_reply_serves_all_candidates(make):
    engine = Engine()
    ((first, *others),) = make(engine, temperature=0.0).sample(HISTORIES[:1], n=4)
    assert others == [first] * 3
    assert len(engine.log) == 1


def test_nothing_is_cut_off_the_distribution_whatever_the_models_configuration_says(make):
    engine = Engine()
    make(engine).act(HISTORIES)
    everything = -1 if make.kind == "sglang" else 0  # SGLang's and vLLM's words for all tokens
    for _, body in engine.log:
        sent = body.get("sampling_params", body)
        assert [sent[name] for name in ("top_p", "top_k", "min_p", "repetition_penalty")] == [1.0, everything, 0.0, 1.0]
        assert sent["stop_token_ids"] == [chat_tokenizer().eos_token_id]
        assert sent["skip_special_tokens"] is False


def test_prompts_are_the_token_ids_of_the_transcript(make):
    engine = Engine()
    agent = make(engine, temperature=0.0)
    envs = TextVectorEnv(lambda: ScriptedEnv(WAYS), 1, max_episode_steps=4)
    (episode,) = collect(agent, envs, [3])
    envs.close()
    if make.kind != "process":  # a fake in process keeps the parameters alone
        sent = [body.get("prompt") or body["input_ids"] for _, body in engine.log]
        transcript = agent.encoder.trajectory(episode)[-1]
        for prompt, step in zip(sent, episode.steps, strict=True):
            whole = (*prompt, *step.action.token_ids)
            assert transcript.token_ids[: len(whole)] == whole


def test_a_whole_model_is_reloaded(make, tmp_path):
    other = chat_model(7)
    engine = Engine(folders={str(tmp_path): other})
    agent = make(engine, temperature=0.0)
    before = agent.act(HISTORIES)
    agent.reload(tmp_path)
    expected = LocalAgent(other, chat_tokenizer(), "bare", temperature=0.0, max_new_tokens=6).act(HISTORIES)
    assert [action.token_ids for action in agent.act(HISTORIES)] == [action.token_ids for action in expected]
    assert [action.token_ids for action in before] != [action.token_ids for action in expected]
    assert engine.loaded == [str(tmp_path)]


def test_what_vllm_computed_with_the_old_weights_is_forgotten(serve, tmp_path):
    engine = Engine(folders={str(tmp_path): chat_model()})
    VLLMServerAgent(serve(engine).url, "m", chat_tokenizer(), "bare").reload(tmp_path)
    assert [path for path, _ in engine.log] == ["/collective_rpc", "/reset_prefix_cache"]
    llm = FakeLLM(engine)
    llm.is_reset = False
    with pytest.raises(ServiceError, match="still sampling"):
        VLLMAgent(llm, chat_tokenizer(), "bare").reload(tmp_path)


@pytest.mark.parametrize(("cpu", "tied"), [(True, True), (True, False), (False, True)])
def test_what_a_cpu_would_reload_in_part_is_refused(cpu, tied, monkeypatch, tmp_path):
    """Measured on vLLM 0.32 for CPUs: of tied embeddings it packs the output layer once, and keeps it."""
    for name, module in fake_vllm(cpu=cpu).items():
        monkeypatch.setitem(sys.modules, name, module)
    engine = Engine(folders={str(tmp_path): chat_model()})
    agent = VLLMAgent(FakeLLM(engine, tied=tied), chat_tokenizer(), "bare")
    if cpu and tied:
        with pytest.raises(ServiceError, match="old output layer"):
            agent.reload(tmp_path)
    else:
        agent.reload(tmp_path)
    assert engine.loaded == [str(tmp_path)] * (not (cpu and tied))


def test_adapters_are_loaded_under_a_new_name_each_time(make, tmp_path):
    engine = Engine(folders={str(tmp_path): chat_model()})
    agent = make(engine, temperature=0.0)
    names = []
    folder = adapter(tmp_path / "adapter")
    for _ in range(2):
        agent.reload(folder)
        agent.act(HISTORIES[:1])
        if make.kind == "process":
            name, number, path = agent.llm.adapters[-1]
            assert (number, path) == (len(names) + 1, str(folder))
        else:
            name = engine.log[-1][1]["model" if make.kind == "server" else "lora_path"]
        names.append(name)
    assert len(set(names)) == 2
    if make.kind != "process":
        unloaded = [body["lora_name"] for path, body in engine.log if "unload" in path]
        assert unloaded == names[:1]
    # Whole weights replace adapters.
    agent.reload(tmp_path)
    agent.act(HISTORIES[:1])
    if make.kind == "process":
        assert agent.llm.adapters[-1] is None
    else:
        assert engine.log[-2][1] == {"lora_name": names[1]}
        assert engine.log[-1][1].get("lora_path") is None
        assert engine.log[-1][1].get("model", "m") == "m"


def test_an_adapter_to_begin_with_is_used(tmp_path):
    llm = FakeLLM(Engine())
    folder = adapter(tmp_path / "adapter")
    VLLMAgent(llm, chat_tokenizer(), "bare", adapter=folder, max_new_tokens=2).act(HISTORIES[:1])
    assert llm.adapters == [("adapter-1", 1, str(folder))]
    assert llm.engine.loaded == [str(folder)]


def test_a_server_that_cannot_reload_says_so(serve, tmp_path):
    agent = VLLMServerAgent(serve(Engine()).url, "m", chat_tokenizer(), "bare", server=QUICK)
    with pytest.raises(ServiceError, match="refused a request"):
        agent.reload(tmp_path)
    agent = SGLangAgent(serve(Engine()).url, chat_tokenizer(), "bare", server=QUICK)
    with pytest.raises(ServiceError, match="no folder"):
        agent.reload(tmp_path)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_server_that_gives_logprobs_at_temperature_one_is_refused(serve, temperature):
    options = {"temperature": temperature, "max_new_tokens": 3}
    raw = VLLMServerAgent(serve(Engine(processed=False)).url, "m", chat_tokenizer(), "bare", **options)
    with pytest.raises(UsageError, match="--logprobs-mode processed_logprobs"):
        raw.act(HISTORIES)
    engine = Engine()
    agent = VLLMServerAgent(serve(engine).url, "m", chat_tokenizer(), "bare", **options)
    agent.act(HISTORIES)
    agent.act(HISTORIES)
    # Two requests look, once; then one for each history and call.
    assert len(engine.log) == 2 + 2 * 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_at_temperature_zero_and_one_both_kinds_of_logprobs_are_the_same(serve, temperature):
    engine = Engine(processed=False)
    VLLMServerAgent(serve(engine).url, "m", chat_tokenizer(), "bare", temperature=temperature).act(HISTORIES[0])
    assert len(engine.log) == 1


def test_an_engine_in_process_with_other_logprobs_is_refused():
    raw = FakeLLM(Engine(), "raw_logprobs")
    with pytest.raises(ValueError, match="logprobs_mode is 'raw_logprobs'"):
        VLLMAgent(raw, chat_tokenizer(), "bare", temperature=0.5)
    VLLMAgent(raw, chat_tokenizer(), "bare", temperature=1.0)
    with pytest.raises(ValueError, match="raw_logits"):
        VLLMAgent(FakeLLM(Engine(), "raw_logits"), chat_tokenizer(), "bare", temperature=1.0)


@pytest.mark.parametrize("status", [429, 503])
def test_passing_failures_are_tried_again(serve, status):
    server = serve(Engine())
    server.faults = [status, status]
    agent = VLLMServerAgent(server.url, "m", chat_tokenizer(), "bare", temperature=0.0, max_new_tokens=3, server=QUICK)
    expected = local(temperature=0.0, max_new_tokens=3).act(HISTORIES)
    assert [action.token_ids for action in agent.act(HISTORIES)] == [action.token_ids for action in expected]
    assert len(server.engine.log) == 3 + 2


def test_lasting_failures_stop_with_a_message(serve):
    server = serve(Engine())
    server.faults = [400]
    agent = SGLangAgent(server.url, chat_tokenizer(), "bare", server=QUICK)
    with pytest.raises(ServiceError, match=r"/generate refused a request \(status 400\): .*as told"):
        agent.act(HISTORIES)
    server.faults = [500] * 30
    with pytest.raises(ServiceError, match="no usable answer in 3 attempts"):
        agent.act(HISTORIES[:1])


def test_calls_that_are_given_up_end(serve):
    server = serve(Engine())
    server.faults = [503] * 30
    slow = {"retry": RetryPolicy(first_delay=60.0, longest_delay=60.0)}
    agent = VLLMServerAgent(server.url, "m", chat_tokenizer(), "bare", server=slow)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(agent.act, HISTORIES)
        while len(server.engine.log) < len(HISTORIES):
            time.sleep(0.01)
        agent.give_up()
        with pytest.raises(CancelledError):
            running.result(10)


def test_a_server_that_is_down_is_a_clear_error(serve):
    server = serve(Engine())
    server.__exit__()
    agent = SGLangAgent(server.url, chat_tokenizer(), "bare", server=QUICK)
    server.__exit__ = lambda: None
    with pytest.raises(ServiceError, match="is the server running there"):
        agent.act(HISTORIES[0])


def test_a_reply_that_was_given_up_is_none():
    engine = Engine()
    agent = VLLMAgent(FakeLLM(engine), chat_tokenizer(), "bare")
    engine.write = lambda prompt, **settings: ([3], [-0.1], "abort", None, [])
    with pytest.raises(ServiceError, match="ended by 'abort'"):
        agent.act(HISTORIES[0])


def test_the_key_is_sent_and_not_shown(serve, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "sk-do-not-show")
    server = serve(Engine())
    agent = VLLMServerAgent(server.url, "m", chat_tokenizer(), "bare", max_new_tokens=1, server=QUICK)
    agent.act(HISTORIES[0])
    assert server.keys == ["Bearer sk-do-not-show"]
    assert "sk-do-not-show" not in repr(vars(agent)) + repr(vars(agent._service))


def test_settings_out_of_range_are_refused(make):
    for options in ({"temperature": -1.0}, {"max_new_tokens": 0}):
        with pytest.raises(ValueError, match="must be at least"):
            make(**options)
    with pytest.raises(ValueError, match="n must be at least 1"):
        make().sample(HISTORIES, n=0)
    with pytest.raises(UsageError, match="http://"):
        SGLangAgent("localhost:30000", chat_tokenizer(), "bare")


def test_missing_vllm_names_the_extra(monkeypatch):
    from agentgym_prm.agents.vllm import load_llm

    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[vllm\]'"):
        load_llm("m")


def test_stop_ids_are_the_tokenizers_and_the_generation_configurations(tmp_path):
    from agentgym_prm.models import load_stop_ids

    tokenizer = chat_tokenizer()
    assert load_stop_ids(tmp_path, tokenizer) == [tokenizer.eos_token_id]
    ids = [7, tokenizer.eos_token_id, 5]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    assert load_stop_ids(tmp_path, tokenizer) == [tokenizer.eos_token_id, 7, 5]


# --- texts ---

TEXTS = ["open the door", "you see a key", "look"]


@pytest.mark.parametrize("is_stopped", [False, True])
def test_texts_without_temperature_are_continued_as_here(make, is_stopped):
    here = LocalGenerator(chat_model(), chat_tokenizer(), temperature=0.0, max_new_tokens=6)
    (first, *_), *_ = here.continuations(TEXTS, 1)
    stop = (first.text[2:4],) if is_stopped else ()
    expected = here.continuations(TEXTS, 2, stop=stop)
    assert ("stop" in {each[0].stop_reason for each in expected}) == is_stopped
    found = EngineGenerator(make(temperature=0.0)).continuations(TEXTS, 2, stop=stop)
    for theirs, ours in zip(found, expected, strict=True):
        assert theirs[0] == theirs[1]
        assert theirs[0]._replace(logprob=0.0) == ours[0]._replace(logprob=0.0)
        assert theirs[0].logprob == pytest.approx(ours[0].logprob, abs=TOLERANCE)


def test_draws_for_a_text_depend_on_it_and_the_seed_alone(make):
    agent = make()
    found = EngineGenerator(agent).continuations(TEXTS, 3)
    assert len({each.text for each in found[0]}) > 1
    assert EngineGenerator(agent).continuations(TEXTS[::-1], 3) == found[::-1]
    assert EngineGenerator(agent, seed=1).continuations(TEXTS, 3) != found
    with pytest.raises(ValueError, match="n must be at least 1"):
        EngineGenerator(agent).continuations(TEXTS, 0)


def test_a_beam_of_one_writes_what_the_engine_writes(make):
    generator = EngineGenerator(make(temperature=0.0, max_new_tokens=12))
    ((whole,),) = generator.continuations(TEXTS[:1], 1)
    separator = whole.text[2:4]

    def judge(attempts):
        return np.zeros(len(attempts))

    found = beam_search(generator, TEXTS[0], judge, beam_width=1, beam_factor=1, separator=separator, max_steps=2)
    assert found.budget.calls == 2
    # Written in two parts; the ids of the first are sent again as they were sampled.
    assert found.best.text.startswith(whole.text)
