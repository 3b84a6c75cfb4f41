"""A reward model's network behind a vLLM server on this machine (``make live``): the scores are the local ones."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

pytest.importorskip("vllm", reason="needs vLLM: make live")

import torch

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.errors import ServiceError
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny
from agentgym_prm.rewards.prm import PRMSettings, ProcessRewardModel
from agentgym_prm.rewards.remote import RemoteScorer, SGLangClassify, VLLMClassify, connect_scorer
from agentgym_prm.types import Action, History, Step

pytestmark = pytest.mark.live
SECONDS = 600
TOLERANCE = 1e-5  # float32; sums in another order differ by about 1e-6
COMMANDS = ("go to lamp", "look", "open door", "take key from room", "you see")


@pytest.fixture(scope="module")
def prm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    # vLLM's attention wants heads of at least 32.
    shape = TinyConfig(hidden_size=256, num_heads=4, num_layers=2, intermediate_size=512)
    build_tiny(folder / "body", [*COMMANDS, "you see a key , a lamp"], shape)
    body = ModelConfig(str(folder / "body"), device="cpu", dtype="float32")
    prm = ProcessRewardModel.start(body, Prompt.load("bare"), PRMSettings(scale=1.5, offset=-0.2), seed=3)
    with torch.no_grad():
        prm.model.score.weight.mul_(10)  # so that actions differ by far more than rounding
    prm.save(folder / "prm")
    return folder / "prm", prm


@pytest.fixture(scope="module")
def url(prm, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(prm[0]), "--runner", "pooling"),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "1024"),
        "--enforce-eager",
    ]
    switches = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    log = tmp_path_factory.mktemp("log") / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env={**os.environ, **switches}, stdout=file, stderr=file, start_new_session=True
        )
    try:
        for _ in range(SECONDS):
            assert server.poll() is None, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def pairs():
    step = Step("open door", (), Action("look"))
    histories = [History("t", f"you see a key {number}", COMMANDS, (step,) * number) for number in range(3)]
    return [each for each in histories for _ in COMMANDS], [Action(command) for _ in histories for command in COMMANDS]


@pytest.mark.parametrize("engine", ["vllm", "vllm-pooling", "vllm-score"])
def test_scores_are_the_local_ones(engine, prm, url):
    folder, local = prm
    expected = local.score(*pairs())
    assert connect_scorer(f"{folder}@{engine}+{url}").score(*pairs()) == pytest.approx(expected, abs=TOLERANCE)
    assert np.ptp(expected) > 100 * TOLERANCE


def test_mistakes_are_told(prm, url):
    _, local = prm
    with pytest.raises(ServiceError, match="The model `other` does not exist"):
        RemoteScorer(url, VLLMClassify(local.reader, model="other")).score(*pairs())
    with pytest.raises(ServiceError, match=r"status 400\).*Field required"):
        RemoteScorer(url, SGLangClassify(local.reader)).score(*pairs())
    with pytest.raises(ServiceError, match=r"no server of `agentgym-prm serve-prm`"):
        connect_scorer(url)
