"""Pushing and pulling with huggingface_hub itself, against a hub on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agentgym_prm import hub as hub_module
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.cli import main
from agentgym_prm.errors import MissingKeyError, ServiceError, StoreError, UsageError
from agentgym_prm.hub import CARD, model_card, model_files, pull, push
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny
from agentgym_prm.rewards import prm, progress, token_labels
from agentgym_prm.rewards.prm import ProcessRewardModel
from agentgym_prm.types import Action, History
from tests.hub_stub import TOKEN, HubStub, Repository

pytest.importorskip("huggingface_hub", reason="needs the hub's library: pip install -e '.[train]'")

SECRETS = ("OPENAI_API_KEY=sk-secret", "hf_secret", "optimizer state", "outcome of an episode", "print('code')")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with HubStub() as stub:
        point_to(stub.url, monkeypatch, tmp_path)
        yield stub


def point_to(url, monkeypatch, tmp_path):
    """What HF_ENDPOINT, HF_TOKEN and HF_HOME do for a process that begins."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    shape = TinyConfig(hidden_size=16, num_heads=2, num_layers=1, intermediate_size=32)
    return build_tiny(tmp_path_factory.mktemp("body") / "model", ["go to lamp", "look"], shape)


@pytest.fixture
def stage(tmp_path, body):
    """The folder of a stage in a run, with all that a stage leaves, and some that nobody should see."""
    folder = tmp_path / "run" / "prm"
    prm = ProcessRewardModel.start(ModelConfig(str(body), device="cpu"), Prompt.load("bare"))
    prm.save(folder / "model", "# Process reward model\n\nJudges actions.\n")
    (folder.parent / "config.json").write_text(
        json.dumps({"settings": {"games.env": "agentgym_prm/Toy-v0", "games.data": "builtin", "model.model": "o/base"}})
    )
    made = {"settings": {"seed": 1, "prm.loss": "listwise"}, "commit": "abc123", "versions": {"agentgym_prm": "0.1.0"}}
    (folder / "config.json").write_text(json.dumps(made))
    results = {"auc": 0.87654321, "train_states": 60, "file": "/home/me/x"}
    (folder / "done.json").write_text(json.dumps({"stage": "prm", "results": results}))
    (folder / "quality.json").write_text(json.dumps({"gate": {"pairwise accuracy at least 0.75": "PASS: 0.81"}}))
    (folder / "trajectories.jsonl").write_text(SECRETS[3])
    (folder / "checkpoints" / "last").mkdir(parents=True)
    (folder / "checkpoints" / "last" / "model.safetensors").write_text(SECRETS[2])
    inner = folder / "model"
    for name, text in ((".env", 0), ("token", 1), ("optimizer.pt", 2), ("optimizer.safetensors", 2), ("model.py", 4),
                       ("training_args.bin", 2), ("secrets.json", 1), (".config.json.swp", 0)):  # fmt: skip
        (inner / name).write_text(SECRETS[text])
    return folder


def test_a_model_comes_back_from_the_hub_and_scores_the_same(hub, stage, tmp_path):
    assert push(stage, "me/prm", message="First") == f"{hub.url}/me/prm"
    folder = pull("me/prm", tmp_path / "pulled")
    pairs = [History("t", "look", ("go to lamp", "look"))] * 2, [Action("go to lamp"), Action("look")]
    here = ProcessRewardModel.load(stage / "model", device="cpu").score(*pairs)
    assert np.array_equal(ProcessRewardModel.load(folder, device="cpu").score(*pairs), here)
    assert here[0] != here[1]
    assert hub.repositories["me/prm"].commits[0]["summary"] == "First"
    assert not (folder / ".cache").exists()


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub 2.4 asks httpx2 the old way
def test_large_files_go_apart(monkeypatch, tmp_path, stage):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with HubStub(lfs=True) as stub:
        point_to(stub.url, monkeypatch, tmp_path)
        push(stage, "me/prm")
        weights = (stage / "model" / "model.safetensors").read_bytes()
        assert list(stub.blobs.values()) == [weights]
        stub.full = True
        with pytest.raises(ServiceError, match=r"broke off.*model\.safetensors"):
            push(stage, "me/again")
        assert stub.repositories["me/prm"].files["model.safetensors"] == weights
        assert set(stub.repositories["me/again"].files) == {".gitattributes"}


def test_only_what_makes_the_model_is_sent(hub, stage):
    push(stage, "me/prm")
    assert set(hub.repositories["me/prm"].files) == {
        ".gitattributes", "README.md", "chat_template.jinja", "config.json", "generation_config.json",
        "model.safetensors", "prm.json", "tokenizer.json", "tokenizer_config.json",
    } - ({"generation_config.json"} - {path.name for path in model_files(stage / "model")})  # fmt: skip
    for secret in (*SECRETS, TOKEN, "/home/me"):
        assert secret.encode() not in hub.sent


def test_paths_of_this_machine_are_taken_out_of_configurations(hub, body, tmp_path):
    folder = tmp_path / "policy"
    folder.mkdir()
    for path in model_files(body):
        (folder / path.name).write_bytes(path.read_bytes())
    for name, key in (("config.json", "_name_or_path"), ("tokenizer_config.json", "name_or_path")):
        record = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**record, key: "/home/me/model"}))
    push(folder, "me/policy")
    sent = hub.repositories["me/policy"].files
    assert b"/home/me" not in hub.sent
    assert json.loads(sent["config.json"])["hidden_size"] == 16
    # The folder itself stays as it is, and a name on the hub is sent.
    assert "/home/me" in (folder / "config.json").read_text()
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**record, "_name_or_path": "org/base"}))
    push(folder, "me/other")
    assert json.loads(hub.repositories["me/other"].files["config.json"])["_name_or_path"] == "org/base"


def test_the_card_tells_what_the_folder_knows(stage):
    card = model_card(stage / "model", "me/prm")
    front, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert front.splitlines() == [
        "library_name: transformers", "tags:", "- agentgym_prm", "- process-reward-model", "base_model: o/base",
    ]  # fmt: skip
    for line in (
        "Judges actions.", "agentgym-prm pull me/prm FOLDER", "- Base model: o/base",
        "`agentgym_prm.rewards.prm.ProcessRewardModel.load(folder)`, or its folder as `--scorer`.",
        "- Environment of the training data: agentgym_prm/Toy-v0", "- Its games: builtin", "- Commit: abc123",
        "- agentgym_prm: 0.1.0", "| auc | 0.8765 |", "| train_states | 60 |",
        "- pairwise accuracy at least 0.75: PASS: 0.81",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert "/home/me" not in card
    # A card that has been on the hub gets one front matter, not two.
    (stage / "model" / CARD).write_text(card)
    assert model_card(stage / "model", "me/prm").count("\n---\n") == 1


def test_a_model_without_a_stage_has_a_card(body):
    card = model_card(body, "me/policy")
    assert "# A policy" in card.splitlines()
    assert "base_model" not in card
    assert "## Results" not in card


def test_a_repository_that_holds_files_is_not_written_to(hub, stage, capsys):
    push(stage, "me/prm")
    before = dict(hub.repositories["me/prm"].files)
    with pytest.raises(UsageError, match=r"me/prm holds README.md, .* …: choose another name"):
        push(stage, "me/prm")
    assert main(["push", str(stage), "me/prm"]) == 2
    assert "choose another name" in capsys.readouterr().err
    assert hub.repositories["me/prm"].files == before


def test_private_stays_private(hub, stage):
    push(stage, "me/prm", private=True)
    assert hub.repositories["me/prm"].private
    hub.repositories["me/open"] = Repository()
    with pytest.raises(UsageError, match="me/open is there and public"):
        push(stage, "me/open", private=True)
    assert set(hub.repositories["me/open"].files) == {".gitattributes"}


def test_a_folder_that_holds_files_is_not_written_to(hub, stage, tmp_path):
    push(stage, "me/prm")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(UsageError, match="is there already"):
        pull("me/prm", tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert (pull("me/prm", tmp_path / "empty") / "prm.json").is_file()


def test_no_code_and_no_pickles_are_fetched(hub, stage, tmp_path):
    push(stage, "me/prm")
    files = hub.repositories["me/prm"].files
    files |= {"modeling_evil.py": b"import os", "pytorch_model.bin": b"pickle", "sub/config.json": b"{}"}
    pull("me/prm", tmp_path / "pulled")
    assert {path.name for path in (tmp_path / "pulled").rglob("*")} == set(files) - {
        ".gitattributes", "modeling_evil.py", "pytorch_model.bin", "sub/config.json",
    }  # fmt: skip


def test_what_is_no_model_is_refused_on_both_sides(hub, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageError, match="holds no model"):
        push(tmp_path, "me/prm")
    assert hub.asked == []
    hub.repositories["me/data"] = Repository(files={"README.md": b"data"})
    with pytest.raises(ServiceError, match="me/data holds no model"):
        pull("me/data", tmp_path / "pulled")
    assert not list(tmp_path.glob("pulled*"))


def test_an_adapter_of_a_local_model_is_refused(hub, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/home/me/base"}')
    with pytest.raises(UsageError, match="merge it first"):
        push(tmp_path, "me/adapter")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    push(tmp_path, "me/adapter")
    assert b"base_model: org/base" in hub.repositories["me/adapter"].files["README.md"]
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        push(tmp_path, "me/again")


def test_without_a_token_that_the_hub_knows_it_says_how_to_get_one(hub, stage, tmp_path, monkeypatch, capsys):
    for token in ("hf_wrong_one", None):
        monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(MissingKeyError, match=r"hf auth login.*HF_TOKEN") as raised:
            push(stage, "me/prm")
        assert "hf_wrong_one" not in str(raised.value)
    assert main(["push", str(stage), "me/prm"]) == 2
    assert capsys.readouterr().err.startswith("error: the hub asks for a token")
    assert hub.repositories == {}
    hub.repositories["me/hidden"] = Repository()
    hub.readers_need_token = True
    with pytest.raises(MissingKeyError):
        pull("me/hidden", tmp_path / "pulled")


def test_refusals_of_the_hub_are_told(hub, stage, tmp_path):
    with pytest.raises(ServiceError, match="there is no me/nothing on the hub"):
        pull("me/nothing", tmp_path / "pulled")
    with pytest.raises(UsageError, match="no name of a repository"):
        push(stage, "me/my/prm")
    hub.status = 403
    with pytest.raises(ServiceError, match="does it allow writing"):
        push(stage, "me/prm")


def test_a_hub_that_cannot_be_reached_is_told(hub, stage, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ServiceError, match="cannot be reached"):
        push(stage, "me/prm")
    with pytest.raises(ServiceError, match="cannot be reached"):
        pull("me/prm", tmp_path / "pulled")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_to("http://127.0.0.1:9", monkeypatch, tmp_path)
    with pytest.raises(ServiceError, match=r"hub at http://127\.0\.0\.1:9 cannot be reached"):
        push(stage, "me/prm")


def test_the_commands_find_the_hub_by_the_environment(hub, stage, tmp_path):
    code = (
        "from agentgym_prm.cli import main\n"
        f"assert main(['push', {str(stage)!r}, 'me/prm', '--private']) == 0\n"
        f"assert main(['pull', 'me/prm', {str(tmp_path / 'pulled')!r}]) == 0\n"
    )
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [f"{hub.url}/me/prm", str(tmp_path / "pulled")]
    assert (tmp_path / "pulled" / "prm.json").is_file()
    assert hub.repositories["me/prm"].private
    assert TOKEN not in result.stdout + result.stderr


def test_the_settings_of_every_kind_of_model_are_sent():
    for name in (token_labels.SETTINGS_FILE, prm._SETTINGS_FILE, progress._SETTINGS_FILE):
        assert name in hub_module.FILES
        assert name in hub_module._KINDS
