import json
import sys

import pytest

from agentgym_prm.agents.vllm import VLLMAgent, VLLMServerAgent
from agentgym_prm.algos.core import Rollouts
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.served import ServedRollouts
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.rewards.core import FunctionScorer
from agentgym_prm.rewards.wrappers import VectorStepReward
from agentgym_prm.testing import ScriptedEnv
from tests.agents.engines import Engine, EngineServer, FakeLLM, fake_vllm
from tests.algos.episodes import TASKS, agent_of, fresh_model

CONFIG = GRPOConfig(updates=3, tasks=2, group_size=4, learning_rate=1e-2, minibatches=2, rewards="merged")


@pytest.fixture(autouse=True)
def vllm(monkeypatch):
    for name, module in fake_vllm().items():
        monkeypatch.setitem(sys.modules, name, module)


def rollouts():
    envs = TextVectorEnv(lambda: ScriptedEnv(TASKS), 4, max_episode_steps=3)
    # Nothing is won here: longer commands are paid instead, so that there is something to learn.
    return Rollouts(VectorStepReward(envs, FunctionScorer(lambda history, action: len(action.command) / 10)), [0, 1])


def train(sampler, folder, *, setup="conversation", **options):
    policy = Policy(agent_of(setup, model=fresh_model(), **options))
    source = ServedRollouts(rollouts(), sampler, folder / "weights")
    GRPOTrainer(policy, CONFIG, source, run_dir=folder / "run").run()
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def sampler_of(engine, **options):
    return VLLMAgent(FakeLLM(engine), engine.tokenizer, "bare", max_new_tokens=4, **options)


def test_each_update_is_sampled_from_the_weights_of_the_last(tmp_path):
    engine = Engine()
    lines = train(sampler_of(engine), tmp_path)
    # Engine and trainer compute the same, the one in float64 and the other in float32.
    assert [line["sampler/logprob_gap_max"] < 1e-4 for line in lines] == [True] * 3
    folders = [f"{tmp_path}/weights/update-{update}" for update in range(3)]
    assert engine.loaded == folders
    assert [str(each) for each in (tmp_path / "weights").iterdir()] == folders[-1:]


def test_a_sampler_that_keeps_old_weights_shows_as_a_gap(tmp_path):
    """The check above can fail: weights that are handed over once are those of the first update only."""
    engine = Engine()
    sampler = sampler_of(engine)
    first = sampler.reload
    sampler.reload = lambda folder: None if engine.loaded else first(folder)
    gaps = [line["sampler/logprob_gap_max"] for line in train(sampler, tmp_path)]
    assert gaps[0] < 1e-4
    assert min(gaps[1:]) > 1e-2


def test_a_server_is_reloaded_too(tmp_path, monkeypatch):
    pytest.importorskip("httpx2", reason="needs the HTTP client: pip install -e '.[api]'")
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    engine = Engine()
    with EngineServer(engine) as server:
        sampler = VLLMServerAgent(server.url, "m", engine.tokenizer, "bare", max_new_tokens=4)
        lines = train(sampler, tmp_path)
    assert [line["sampler/logprob_gap_max"] < 1e-4 for line in lines] == [True] * 3


def test_policies_that_an_engine_cannot_sample_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have mode 'generate'"):
        train(sampler_of(Engine()), tmp_path, setup="choose")
    with pytest.raises(ValueError, match=r"temperature is 0\.5, the policy's is 1.0"):
        train(sampler_of(Engine(), temperature=0.5), tmp_path / "other")
