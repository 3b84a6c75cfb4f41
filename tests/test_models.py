import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaForSequenceClassification

from agentgym_prm.errors import UnknownNameError
from agentgym_prm.models import (
    ModelConfig,
    TinyConfig,
    build_tiny,
    build_tokenizer,
    load_model,
    load_reward_model,
    resolve_model,
)
from tests.chat_models import chat_model, chat_tokenizer

TEXTS = ["go to fridge 1", "task: put a mug in desk.\n mug 2 mug 2", "at: fridge 2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_tiny(tmp_path_factory.mktemp("tiny") / "model", TEXTS)


def test_a_tiny_model_is_loaded_like_any_other(tiny):
    model, tokenizer = load_model(ModelConfig(str(tiny), device="cpu", dtype="float32"))
    assert type(model).__name__ == "LlamaForCausalLM"
    assert 200_000 <= model.num_parameters() <= 1_000_000
    assert not model.training
    assert tokenizer.padding_side == "left"
    chat = [{"role": "user", "content": "go to"}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|user|>go to<|end|><|assistant|>"


@pytest.mark.parametrize(
    "text", ["go to fridge 1", "  two  spaces\n\n\ttab", "日本語 émoji 🙂", "mug 99", "<|end", "a_b-c"]
)
def test_the_tiny_tokenizer_loses_nothing(tiny, text):
    tokenizer = load_model(ModelConfig(str(tiny), device="cpu")).tokenizer
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_numbered_name_is_one_token_or_two():
    joint, split = (build_tokenizer(TEXTS, joint_names=each) for each in (True, False))
    assert joint.convert_ids_to_tokens(joint.encode("go to fridge 4")) == ["go to", " fridge 4"]
    assert split.convert_ids_to_tokens(split.encode("go to fridge 2")) == ["go to", " fridge", " 2"]


def test_the_same_arguments_make_the_same_model(tiny, tmp_path):
    again = build_tiny(tmp_path / "again", TEXTS)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (tiny / name).read_bytes()
    other = build_tiny(tmp_path / "other", TEXTS, TinyConfig(seed=1))
    assert (other / "model.safetensors").read_bytes() != (tiny / "model.safetensors").read_bytes()


def test_a_mimetic_start_lets_heads_look_for_tokens_like_their_own(tiny, tmp_path):
    """Queries equal keys; values are orthogonal, halved, and the output turns them back: a quarter in all."""
    size = TinyConfig().hidden_size
    for layer in load_model(ModelConfig(str(tiny), dtype="float32", device="cpu")).model.model.layers:
        attention = layer.self_attn
        queries, keys, values, output = (
            getattr(attention, f"{name}_proj").weight.detach() for name in ("q", "k", "v", "o")
        )
        assert torch.equal(queries, keys)
        assert torch.equal(output, values.T)
        assert torch.allclose(output @ values, torch.eye(size) / 4, atol=1e-5)  # float32
        assert (queries**2).sum(1).mean().item() == pytest.approx(1, abs=0.1)  # 96 rows of 96 numbers
    plain = build_tiny(tmp_path / "plain", TEXTS, TinyConfig(mimetic=False))
    for layer in load_model(ModelConfig(str(plain), dtype="float32", device="cpu")).model.model.layers:
        assert not torch.allclose(layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight, atol=1e-2)


def test_building_a_model_leaves_the_random_numbers_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_tiny(tmp_path / "model", TEXTS)
    assert torch.equal(torch.rand(3), expected)


def test_a_reward_model_needs_a_head_of_one_number_named_score(tiny, tmp_path):
    _, tokenizer = load_model(ModelConfig(str(tiny), device="cpu"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BertForSequenceClassification(BertConfig(vocab_size=600, **sizes))
    bert.save_pretrained(tmp_path / "bert")
    three = LlamaForSequenceClassification.from_pretrained(tiny, num_labels=3)
    three.save_pretrained(tmp_path / "three")
    for name in ("bert", "three"):
        tokenizer.save_pretrained(tmp_path / name)
        with pytest.raises(ValueError, match="one output in a layer named 'score'"):
            load_reward_model(ModelConfig(str(tmp_path / name), device="cpu"))
    with pytest.raises(OSError, match="none"):
        load_reward_model(ModelConfig(str(tmp_path / "none"), device="cpu"))


def test_only_the_name_tiny_builds_a_model(tmp_path):
    assert resolve_model("org/model", texts=[], folder=tmp_path / "none") == "org/model"
    assert not (tmp_path / "none").exists()
    path = resolve_model("tiny", texts=TEXTS, folder=tmp_path / "tiny")
    before = (tmp_path / "tiny/model.safetensors").stat().st_mtime_ns
    assert resolve_model("tiny", texts=[], folder=tmp_path / "tiny") == path
    assert (tmp_path / "tiny/model.safetensors").stat().st_mtime_ns == before


def test_options_reach_the_model(tiny):
    model, _ = load_model(
        ModelConfig(str(tiny), dtype="bfloat16", device="cpu", attention="eager", gradient_checkpointing=True)
    )
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"
    assert model.is_activation_checkpointing


def test_lora_trains_adapters_only_and_is_loaded_back(tiny, tmp_path):
    model, _ = load_model(ModelConfig(str(tiny), dtype="float32", device="cpu", lora_rank=4))
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_()
    model.save_pretrained(tmp_path / "adapter")
    loaded, _ = load_model(ModelConfig(str(tmp_path / "adapter"), dtype="float32", device="cpu"))
    ids = torch.tensor([[5, 6, 7]])
    plain, _ = load_model(ModelConfig(str(tiny), dtype="float32", device="cpu"))
    assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-5)
    assert not torch.allclose(plain(ids).logits, model(ids).logits, atol=1e-2)


def test_a_model_without_chat_template_or_end_token_is_refused(tmp_path):
    chat_model().save_pretrained(tmp_path)
    for missing, message in (("chat_template", "no chat template"), ("eos_token", "no end token")):
        tokenizer = chat_tokenizer()
        setattr(tokenizer, missing, None)
        for stale in tmp_path.glob("chat_template*"):
            stale.unlink()
        tokenizer.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=message):
            load_model(ModelConfig(str(tmp_path), device="cpu"))


def test_wrong_settings_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'float32'"):
        ModelConfig(dtype="float23")
    with pytest.raises(ValueError, match="lora_rank"):
        ModelConfig(lora_rank=-1)
    with pytest.raises(ValueError, match="hidden_size must be a multiple"):
        TinyConfig(hidden_size=100)


def test_a_missing_model_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no model folder .*/nowhere: give a folder"):
        load_model(ModelConfig(str(tmp_path / "nowhere")))
