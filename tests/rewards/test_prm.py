import json
import os
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.errors import StoreError, UnknownNameError
from agentgym_prm.models import ModelConfig, load_model
from agentgym_prm.rewards import prm as prm_module
from agentgym_prm.rewards.prm import PRMSettings, ProcessRewardModel
from agentgym_prm.testing import check_scorer
from agentgym_prm.types import Action, History, Step
from tests.chat_models import CHATML, FORGETFUL, TRIMMING, WORDS, chat_model, chat_tokenizer

TOLERANCE = 1e-4  # float32; sums in another order differ by about 1e-6
COMMANDS = ("go to door", "go to lamp", "go", "look", "take key from room")
HISTORIES = [
    History("open door", "dark room", COMMANDS),
    History("take key", "you see a key , a lamp , a door and a dark room . light", COMMANDS),
    History(
        "look",
        "it is dark : you see a lamp",
        COMMANDS,
        (Step("door", (), Action("open door")), Step("a  key", (), Action("take", reply="<think> dark </think> take"))),
    ),
]
HEADS = ("scalar", "likelihood")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SPECIALS = {"vocab_size": len(WORDS) + 6, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 3}


def saved(folder, model=None, *, template=CHATML, pad=True):
    (model or chat_model()).save_pretrained(folder)
    tokenizer = chat_tokenizer(template)
    if not pad:
        tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    return str(folder)


def config(folder, **options):
    return ModelConfig(str(folder), **{"device": "cpu", "dtype": "float32", **options})


def start(folder, head="scalar", *, prompt="bare", seed=0, options=None, **settings):
    prompt = Prompt.load(prompt) if isinstance(prompt, str) else prompt
    settings = PRMSettings(**{"head": head, "link": "identity", **settings})
    return ProcessRewardModel.start(config(folder, **(options or {})), prompt, settings, seed=seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "llama")


def all_pairs(histories=HISTORIES):
    """Each history object with all its commands."""
    return zip(*((h, Action(command)) for h in histories for command in h.admissible_commands), strict=True)


def spelled_out(model_folder, history, command):
    """Ids of prompt and reply, end token included, by the tokenizer alone; the last of them is the reply."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    shown = []
    for step in history.steps:
        shown.append({"role": "user", "content": step.observation})
        shown.append({"role": "assistant", "content": step.action.reply or step.action.command})
    shown.append({"role": "user", "content": history.observation})
    text = tokenizer.apply_chat_template(shown, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer.encode(text, add_special_tokens=False)
    return prompt, [*tokenizer.encode(command, add_special_tokens=False), tokenizer.eos_token_id]


def forward(model_folder, head, history, command):
    """The score by Hugging Face's own class, one unpadded sequence at a time."""
    prompt, reply = spelled_out(model_folder, history, command)
    ids = torch.tensor([[*prompt, *reply]])
    if head == "scalar":
        with torch.no_grad():
            return _loaded(AutoModelForSequenceClassification, model_folder)(input_ids=ids).logits.item()
    with torch.no_grad():
        logits = _loaded(AutoModelForCausalLM, model_folder)(input_ids=ids).logits[0].float()
    logprobs = torch.log_softmax(logits, -1)
    return sum(logprobs[len(prompt) - 1 + place, token].item() for place, token in enumerate(reply))


@lru_cache(2)
def _loaded(auto_class, model_folder):
    return auto_class.from_pretrained(model_folder, dtype=torch.float32).eval()


# --- what a score is ---


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("template", [CHATML, FORGETFUL, TRIMMING])
def test_a_score_is_what_hugging_faces_own_forward_pass_gives(tmp_path, head, template):
    prm = start(saved(tmp_path / "base", template=template), head)
    prm.save(tmp_path / "saved")
    histories, actions = all_pairs()
    scores = prm.score(histories, actions)
    expected = [forward(tmp_path / "saved", head, h, a.command) for h, a in zip(histories, actions, strict=True)]
    assert scores.tolist() == pytest.approx(expected, abs=TOLERANCE)
    assert np.std(expected) > 100 * TOLERANCE


ARCHITECTURES = {
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, **SPECIALS),
    "gpt_neox": GPTNeoXConfig(**SIZES, **SPECIALS, initializer_range=0.3),
    "qwen2": Qwen2Config(**SIZES, **SPECIALS, num_key_value_heads=2, initializer_range=0.3),
    "tied llama": LlamaConfig(**SIZES, **SPECIALS, tie_word_embeddings=True, initializer_range=0.3),
    "granite": GraniteConfig(**SIZES, **SPECIALS, logits_scaling=5.0, initializer_range=0.3),
    "gemma2": Gemma2Config(
        **SIZES, **SPECIALS, head_dim=8, num_key_value_heads=2, final_logit_softcapping=2.0, initializer_range=0.3
    ),
    "sliding window": MistralConfig(
        **SIZES, **SPECIALS, num_key_value_heads=2, sliding_window=6, initializer_range=0.3
    ),
}


def random_model(name):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(ARCHITECTURES[name])


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("head", HEADS)
def test_so_it_is_for_other_architectures(tmp_path, name, head):
    if name == "granite" and head == "scalar":
        pytest.skip("Granite has no sequence classifier in transformers")
    prm = start(saved(tmp_path / "base", random_model(name)), head)
    prm.save(tmp_path / "saved")
    histories, actions = all_pairs(HISTORIES[1:])
    scores = prm.score(histories, actions)
    expected = [forward(tmp_path / "saved", head, h, a.command) for h, a in zip(histories, actions, strict=True)]
    assert scores.tolist() == pytest.approx(expected, abs=TOLERANCE)
    assert np.std(expected) > 10 * TOLERANCE


@pytest.mark.parametrize("head", HEADS)
def test_padding_with_the_end_token_changes_nothing(tmp_path, head):
    """Hugging Face's classifier looks for the last token that is no padding, and would pass over the end token."""
    prm = start(saved(tmp_path / "base", pad=False), head)
    assert prm.tokenizer.pad_token_id == prm.tokenizer.eos_token_id
    prm.save(tmp_path / "saved")
    histories, actions = all_pairs()
    expected = []
    for history, action in zip(histories, actions, strict=True):
        if head == "likelihood":
            expected.append(forward(tmp_path / "saved", head, history, action.command))
            continue
        reference = _loaded(AutoModelForSequenceClassification, tmp_path / "saved")
        reference.config.pad_token_id = None  # for one sequence it then takes the very last token
        prompt, reply = spelled_out(tmp_path / "saved", history, action.command)
        with torch.no_grad():
            expected.append(reference(input_ids=torch.tensor([[*prompt, *reply]])).logits.item())
    assert prm.score(histories, actions).tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_the_end_token_counts(folder):
    """``go`` and ``go to door`` begin alike; without its end token ``go`` would always be the likelier."""
    prm = start(folder, "likelihood")
    history = HISTORIES[0]
    prompt, reply = spelled_out(folder, history, "go")
    with torch.no_grad():
        logits = _loaded(AutoModelForCausalLM, folder)(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
    logprobs = torch.log_softmax(logits, -1)
    word, end = (logprobs[len(prompt) - 1 + place, token].item() for place, token in enumerate(reply))
    (score,) = prm.score([history], [Action("go")])
    assert score == pytest.approx(word + end, abs=TOLERANCE)
    assert abs(score - word) > 100 * TOLERANCE


def test_the_link_is_a_sigmoid_of_the_scaled_output(folder):
    histories, actions = all_pairs()
    plain = start(folder).score(histories, actions)
    linked = start(folder, link="sigmoid", scale=0.5, offset=-1.0).score(histories, actions)
    assert linked.tolist() == pytest.approx((1 / (1 + np.exp(1 - 0.5 * plain))).tolist(), abs=1e-12)
    assert start(folder, scale=0.5, offset=-1.0).score(histories, actions).tolist() == plain.tolist()


def test_earlier_replies_are_read_by_their_text_whoever_wrote_them(folder):
    """Token ids of a policy with another tokenizer mean nothing here, and an expert has none."""
    prm = start(folder)
    own = HISTORIES[2]
    actions = [replace(step.action, token_ids=(1, 1, 40), logprobs=(0.0,) * 3) for step in own.steps]
    foreign = replace(own, steps=tuple(replace(s, action=a) for s, a in zip(own.steps, actions, strict=True)))
    scores = [prm.score([history], [Action("look")])[0] for history in (own, foreign)]
    assert scores[0] == scores[1]
    silent = replace(own, steps=())
    assert prm.score([silent], [Action("look")])[0] != scores[0]


# --- batches ---


def one_by_one(prm, histories, actions):
    return [prm.score([h], [a])[0] for h, a in zip(histories, actions, strict=True)]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("template", [CHATML, TRIMMING])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("batch_tokens", [1, 120, 16384])
def test_packed_scores_are_the_plain_ones_one_by_one(tmp_path, monkeypatch, head, template, attention, batch_tokens):
    prm = start(saved(tmp_path / "base", template=template), head, options={"attention": attention})
    prm._batch_tokens = batch_tokens
    histories, actions = all_pairs()
    packed = prm.score(histories, actions)
    monkeypatch.setattr(prm_module, "takes_any_mask", lambda model: False)
    assert prm.score(histories, actions).tolist() == pytest.approx(packed.tolist(), abs=TOLERANCE)
    assert one_by_one(prm, histories, actions) == pytest.approx(packed.tolist(), abs=TOLERANCE)


def test_a_model_with_a_sliding_window_is_scored_by_the_plain_path(tmp_path, monkeypatch):
    """Packing would be wrong there: the mask of the tree takes the place of the window."""
    prm = start(saved(tmp_path / "base", random_model("sliding window")))
    histories, actions = all_pairs()
    scores = prm.score(histories, actions)
    monkeypatch.setattr(prm_module, "takes_any_mask", lambda model: True)
    assert np.abs(prm.score(histories, actions) - scores).max() > 100 * TOLERANCE


@pytest.mark.parametrize("head", HEADS)
def test_the_same_history_object_is_read_once(folder, monkeypatch, head):
    prm = start(folder, head)
    rows = []
    monkeypatch.setattr(
        prm.net, "forward", lambda f=prm.net.forward, **kw: rows.append(len(kw["input_ids"])) or f(**kw)
    )
    histories, actions = all_pairs()
    order = np.random.default_rng(0).permutation(len(histories))
    shuffled = prm.score([histories[i] for i in order], [actions[i] for i in order])
    assert sum(rows) == len(HISTORIES)
    assert shuffled.tolist() == pytest.approx(prm.score(histories, actions)[order].tolist(), abs=TOLERANCE)
    rows.clear()
    # Equal ones that are not the same object are read apart.
    prm.score([replace(history) for history in histories], actions)
    assert sum(rows) == len(histories)


@pytest.mark.parametrize("head", HEADS)
def test_the_contract_of_scorers_holds(folder, head):
    histories, actions = all_pairs()
    check_scorer(start(folder, head), list(histories), list(actions), tolerance=TOLERANCE)
    check_scorer(start(folder, head, link="sigmoid"), list(histories), list(actions), tolerance=TOLERANCE)


def test_nothing_is_scored_as_nothing(folder):
    assert start(folder).score([], []).shape == (0,)
    assert start(folder, judges="history").values([]).shape == (0,)
    with pytest.raises(ValueError, match="2 histories and 1 actions"):
        start(folder).score(HISTORIES[:2], [Action("look")])


# --- value models ---


def test_a_value_is_read_where_the_prompt_ends(folder, tmp_path):
    prm = start(folder, judges="history")
    prm.save(tmp_path)
    model, expected = _loaded(AutoModelForSequenceClassification, tmp_path), []
    for history in HISTORIES:
        prompt, _ = spelled_out(folder, history, "look")
        with torch.no_grad():
            expected.append(model(input_ids=torch.tensor([prompt])).logits.item())
    assert prm.values(HISTORIES).tolist() == pytest.approx(expected, abs=TOLERANCE)
    assert [prm.values([history])[0] for history in HISTORIES] == pytest.approx(expected, abs=TOLERANCE)


def test_a_model_is_asked_for_what_it_judges(folder):
    with pytest.raises(ValueError, match="ask for values"):
        start(folder, judges="history").score(HISTORIES[:1], [Action("look")])
    with pytest.raises(ValueError, match="ask for score"):
        start(folder).values(HISTORIES[:1])


# --- start, save, load ---


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_saved_model_scores_bit_by_bit_the_same(folder, tmp_path, head, lora_rank):
    prm = start(folder, head, options={"lora_rank": lora_rank}, link="sigmoid", scale=2.0, offset=0.5, max_tokens=500)
    with torch.no_grad():
        for name, weight in prm.model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    prm.save(tmp_path, "# A card")
    loaded = ProcessRewardModel.load(tmp_path, device="cpu")
    histories, actions = all_pairs()
    assert loaded.settings == prm.settings
    scores = prm.score(histories, actions)
    assert loaded.score(histories, actions).tolist() == scores.tolist()
    assert (tmp_path / "README.md").read_text() == "# A card"
    untouched = start(folder, head, link="sigmoid", scale=2.0, offset=0.5, max_tokens=500).score(histories, actions)
    assert (untouched.tolist() == scores.tolist()) == (lora_rank == 0)


@pytest.mark.parametrize("head", HEADS)
def test_only_adapters_and_the_head_learn_with_lora(folder, head):
    prm = start(folder, head, options={"lora_rank": 2})
    trainable = {name for name, weight in prm.model.named_parameters() if weight.requires_grad}
    adapters = {name for name in trainable if "lora_" in name}
    assert len(adapters) == 2 * 2 * 7  # A and B of seven matrices in two layers
    assert trainable - adapters == (
        {"base_model.model.score.modules_to_save.default.weight"} if head == "scalar" else set()
    )


def test_the_head_starts_small_and_depends_on_the_seed_only(folder):
    def head(seed, before, **options):
        torch.manual_seed(before)
        model = start(folder, seed=seed, options=options).model
        (weight,) = (w for n, w in model.named_parameters() if "score" in n and w.requires_grad)
        return weight.detach()

    assert torch.equal(head(0, before=1), head(0, before=2))
    assert not torch.equal(head(0, before=1), head(1, before=1))
    assert torch.equal(head(0, before=1), head(0, before=1, lora_rank=2))
    drawn = torch.cat([head(seed, before=0).flatten() for seed in range(20)])
    # 640 numbers: four standard errors of the mean and of the standard deviation.
    assert drawn.std().item() == pytest.approx(33**-0.5, abs=4 * 33**-0.5 / (2 * 640) ** 0.5)
    assert drawn.mean().item() == pytest.approx(0, abs=4 * 33**-0.5 / 640**0.5)


def test_a_saved_head_is_not_drawn_again(folder, tmp_path):
    start(folder, seed=3).save(tmp_path)
    again = start(tmp_path, seed=4)
    assert torch.equal(again.model.score.weight, start(folder, seed=3).model.score.weight)


def test_an_adapter_of_a_policy_is_no_body_of_a_scalar_reward_model(folder, tmp_path):
    """Its head would neither be drawn nor trained nor saved."""
    policy, tokenizer = load_model(config(folder, lora_rank=2))
    policy.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="merge"):
        start(tmp_path)
    assert start(tmp_path, "likelihood").score(HISTORIES[:1], [Action("look")]).shape == (1,)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ["layers", "attention"])
def test_dropout_is_off_in_training_too(tmp_path, head, kind):
    if kind == "layers":
        shape = GPT2Config(n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5, **SPECIALS)
    else:
        shape = LlamaConfig(**SIZES, **SPECIALS, attention_dropout=0.5)
    model = AutoModelForCausalLM.from_config(shape)
    prm = start(saved(tmp_path / "base", model), head)
    ids = torch.tensor([[1, 9, 8, 7, 6]])

    def noisy(each):
        each.train()
        with torch.no_grad():
            return not torch.equal(each(input_ids=ids).logits, each(input_ids=ids).logits)

    assert noisy(model)
    assert not noisy(prm.model)


def test_a_prompt_of_ones_own_travels_with_the_model(folder, tmp_path):
    path = tmp_path / "mine.j2"
    path.write_text(
        '{% set style = "conversation" %}{% set reply_format = "bare" %}{% set commands = "verbatim" %}'
        "{% block user %}{{ turn }} {{ observation }}{% endblock %}"
    )
    prm = start(folder, prompt=Prompt.load(path, max_turns=2))
    path.unlink()
    prm.save(tmp_path / "saved")
    loaded = ProcessRewardModel.load(tmp_path / "saved", device="cpu")
    shown = loaded.prompt.messages(HISTORIES[2])
    assert [message.content for message in shown] == ["1 a  key", "<think> dark </think> take", "2 it is dark : you see a lamp"]  # fmt: skip # noqa: E501
    histories, actions = all_pairs()
    assert loaded.score(histories, actions).tolist() == prm.score(histories, actions).tolist()
    assert start(folder).score(histories, actions).tolist() != prm.score(histories, actions).tolist()


def test_without_a_prompt_the_one_of_that_name_is_taken(folder):
    model, tokenizer = load_model(config(folder))
    prm = ProcessRewardModel(model, tokenizer, PRMSettings(head="likelihood", prompt="bare", max_turns=1))
    assert prm.prompt == Prompt.load("bare", max_turns=1)
    assert prm.settings.prompt_source == prm.prompt.source


@pytest.mark.skipif(os.name != "posix", reason="the order of writing is checked by its times")
def test_the_settings_are_written_last(folder, tmp_path):
    start(folder).save(tmp_path)
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert written["prm.json"] == max(written.values())


def test_a_folder_without_a_reward_model_or_of_another_version_is_refused(folder, tmp_path):
    with pytest.raises(StoreError, match="holds no process reward model"):
        ProcessRewardModel.load(tmp_path / "none")
    with pytest.raises(StoreError, match="holds no process reward model"):
        ProcessRewardModel.load(folder)
    start(folder).save(tmp_path)
    record = json.loads((tmp_path / "prm.json").read_text())
    for text in (json.dumps({**record, "settings_version": 2}), "{", "[]"):
        (tmp_path / "prm.json").write_text(text)
        with pytest.raises(StoreError, match=r"prm\.json"):
            ProcessRewardModel.load(tmp_path)


def test_wrong_settings_are_refused(folder):
    for wrong, message in (
        ({"judges": "actions"}, "did you mean 'action'"),
        ({"head": "scaler"}, "did you mean 'scalar'"),
        ({"link": "sigmoit"}, "did you mean 'sigmoid'"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            PRMSettings(**wrong)
    with pytest.raises(ValueError, match="needs the head 'scalar'"):
        PRMSettings(head="likelihood", judges="history")
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale must be above 0"):
            PRMSettings(scale=scale)
    model, tokenizer = load_model(config(folder))
    with pytest.raises(ValueError, match="batch_tokens"):
        ProcessRewardModel(model, tokenizer, PRMSettings(), prompt=Prompt.load("bare"), batch_tokens=0)


def test_a_model_that_reads_commands_is_deaf_to_reasons(folder):
    config = ModelConfig(str(folder), device="cpu", dtype="float32")
    silent, eloquent = Action("look"), Action("look", reply="REASON:\nthe room is dark\nACTION:\nlook")
    for reads, deaf in (("command", True), ("reply", False)):
        prm = ProcessRewardModel.start(config, Prompt.load("reason_action"), PRMSettings(reads=reads))
        scores = prm.score([HISTORIES[0]] * 2, [silent, eloquent])
        assert bool(scores[0] == scores[1]) is deaf
