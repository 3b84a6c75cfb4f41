import json
import sys

import pytest

from agentgym_prm.agents.engines import is_engine_name
from agentgym_prm.cli import main
from tests.agents.engines import Engine, EngineServer, FakeLLM, fake_vllm
from tests.chat_models import chat_tokenizer

pytest.importorskip("httpx2", reason="needs the HTTP client: pip install -e '.[api]'")
GAMES = ("--difficulty", "small", "--episodes", "2", "--num-envs", "2", "--max-episode-steps", "3")
PLAY = ("--prompt", "bare", "--temperature", "0", "--max-tokens", "4")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder with a tokenizer; the keys and the folder of whoever runs the tests are out of the way."""
    monkeypatch.chdir(tmp_path)
    for variable in ("VLLM_API_KEY", "SGLANG_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    chat_tokenizer().save_pretrained(tmp_path / "small" / "model")
    return tmp_path / "small" / "model"


@pytest.mark.parametrize(("engine", "path"), [("vllm", "/v1/completions"), ("sglang", "/generate")])
def test_a_server_plays_and_the_run_says_which(engine, path, model, tmp_path):
    fake = Engine()
    with EngineServer(fake) as server:
        arguments = ["--agent", f"{engine}:{model}", "--base-url", f"{server.url}/v1", "--run-dir", "run"]
        assert main(["rollout", *arguments, *GAMES, *PLAY]) == 0
    assert {asked for asked, _ in fake.log} == {path}
    lines = (tmp_path / "run" / "trajectories.jsonl").read_text().splitlines()
    assert len(lines) == 2
    config = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert (config["agent"], config["model"], config["max_tokens"]) == (f"{engine}-small", f"{engine}:{model}", 4)


def test_vllm_without_an_address_plays_in_this_process(model, monkeypatch, tmp_path):
    modules, engine = fake_vllm(), Engine()
    modules["vllm"].LLM = lambda model, logprobs_mode: FakeLLM(engine, logprobs_mode)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert main(["eval", "--agent", f"vllm:{model}", "--run-dir", "run", *GAMES, *PLAY]) == 0
    assert engine.log
    assert (tmp_path / "run" / "vllm-small" / "summary.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sglang:x",), "SGLang runs as a server"),
        (("vllm:./nowhere",), "the tokenizer of './nowhere' is needed here"),
        (("vlm:x",), "did you mean 'vllm:MODEL'"),
        (("vllm:x", "--budget-tokens", "5"), "a budget is for chat APIs"),
    ],
)
def test_wrong_settings_are_refused_with_a_way_out(arguments, message, model, capsys):
    assert main(["eval", *GAMES, "--agent", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_names_of_engines():
    assert is_engine_name("vllm:org/model")
    assert is_engine_name("sglang:x")
    assert not any(map(is_engine_name, ("vllm", "vllm:", "openai:x", "x:vllm")))
