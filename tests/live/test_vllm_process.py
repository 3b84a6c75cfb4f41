"""vLLM in this process (``make live``): the same replies as the local model, n samples, reloaded weights, adapters."""

import json
import os

import pytest

pytest.importorskip("vllm", reason="needs vLLM: make live")

from agentgym_prm.agents.vllm import VLLMAgent, load_llm
from agentgym_prm.algos.core import Rollouts
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.served import ServedRollouts
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.evaluate import make_envs
from agentgym_prm.rewards.core import FunctionScorer
from agentgym_prm.rewards.wrappers import VectorStepReward
from tests.live.small_model import GAMES, local_logprobs, make_adapter, make_model, opening_histories, play, players

pytestmark = pytest.mark.live
TOLERANCE = 1e-4  # float32 on both sides, in another order of sums


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def llm(folder):
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    engine = load_llm(
        str(folder),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        max_num_seqs=16,
        enable_lora=True,
        max_lora_rank=8,
    )
    yield engine
    engine.llm_engine.engine_core.shutdown()


@pytest.fixture
def pair(llm, folder):
    """Makes the agent in vLLM and the local one, with the same settings."""

    def make(**options):
        local, tokenizer, stop_ids = players(folder, **options)
        return VLLMAgent(llm, tokenizer, local.prompt, stop_ids=stop_ids, max_new_tokens=16, **options), local

    return make


def test_episodes_at_temperature_zero_are_the_local_agents(pair):
    agent, local = pair(temperature=0.0)
    for theirs, ours in zip(play(agent), play(local), strict=True):
        assert [step.action.token_ids for step in theirs.steps] == [step.action.token_ids for step in ours.steps]
        assert [step.observation for step in theirs.steps] == [step.observation for step in ours.steps]
        for one, other in zip(theirs.steps, ours.steps, strict=True):
            assert one.action.logprobs == pytest.approx(other.action.logprobs, abs=TOLERANCE)
            assert one.action.stop_reason == other.action.stop_reason


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_four_candidates_have_the_local_models_logprobs_and_come_again(pair, temperature):
    agent, local = pair(temperature=temperature)
    histories = opening_histories()
    groups = agent.sample(histories, n=4)
    assert len({action.token_ids for action in groups[0]}) > 1
    for history, group in zip(histories, groups, strict=True):
        prompt = local.encoder.history(history).token_ids
        for action in group:
            assert action.logprobs == pytest.approx(local_logprobs(local, prompt, action.token_ids), abs=TOLERANCE)
    again = agent.sample(histories[::-1], n=4)[::-1]
    assert [[a.token_ids for a in group] for group in again] == [[a.token_ids for a in group] for group in groups]


def test_stop_texts_end_a_reply_as_they_do_here(pair):
    agent, local = pair(temperature=0.0, stop=("countertop", "cabinet", "fridge", "drawer"))
    for theirs, ours in zip(agent.act(opening_histories()), local.act(opening_histories()), strict=True):
        assert (theirs.token_ids, theirs.stop_reason, theirs.reply) == (ours.token_ids, ours.stop_reason, ours.reply)


def test_weights_are_reloaded_in_place_and_adapters_too(pair, folder, tmp_path):
    other = make_model(tmp_path / "other", epochs=1)
    agent, local = pair(temperature=0.0)
    first = [action.token_ids for action in local.act(opening_histories())]
    for loaded in (other, folder, make_adapter(folder, tmp_path / "adapter"), folder):
        expected, _, _ = players(loaded, temperature=0.0)
        agent.reload(loaded)
        for theirs, ours in zip(agent.act(opening_histories()), expected.act(opening_histories()), strict=True):
            assert theirs.token_ids == ours.token_ids
            assert theirs.logprobs == pytest.approx(ours.logprobs, abs=TOLERANCE)
        if loaded != folder:
            assert [action.token_ids for action in expected.act(opening_histories())] != first


def test_training_hands_over_its_weights_before_each_update(pair, folder, tmp_path):
    """Trainer and engine agree on what was sampled, although the weights move; kept weights would not."""
    sampler, local = pair(temperature=1.0)
    envs = VectorStepReward(
        make_envs(ALFWORLD, 4, **GAMES), FunctionScorer(lambda history, action: len(action.command))
    )
    source = ServedRollouts(Rollouts(envs, [0, 1]), sampler, tmp_path / "weights")
    config = GRPOConfig(updates=3, tasks=2, group_size=4, learning_rate=1e-3, rewards="merged")
    prompt = local.encoder.history(opening_histories(1)[0]).token_ids
    before = local_logprobs(local, prompt, [1])
    GRPOTrainer(Policy(local), config, source, run_dir=tmp_path / "run").run()
    sampler.reload(folder)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["sampler/logprob_gap_max"] < TOLERANCE for line in lines] == [True] * 3
    assert abs(local_logprobs(local, prompt, [1])[0] - before[0]) > 100 * TOLERANCE
