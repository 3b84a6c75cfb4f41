import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.agents.core import Agent
from agentgym_prm.decoding import beam_search
from agentgym_prm.errors import StoreError, UnknownNameError
from agentgym_prm.generation import LocalGenerator
from agentgym_prm.models import build_tokenizer, load_tokenizer
from agentgym_prm.rewards.core import Weighted
from agentgym_prm.rewards.step_labels import StepLabels
from agentgym_prm.rewards.step_quality import aggregated
from agentgym_prm.rewards.token_labels import StepEncoder, TokenLabelScorer, TokenLabelSettings, single_token
from agentgym_prm.rewards.wrappers import rewarded
from agentgym_prm.testing import check_scorer
from agentgym_prm.types import Action, History, Step, Trajectory

TEXTS = ["2 + 3 = 5", "5 - 1 = 4", "add 2 and 3", "take the key", "a dark room", "+\n-", "open it now please"]
TOLERANCE = 1e-5  # float32; sums in another order differ by about 1e-6


def word_level():
    return build_tokenizer(TEXTS, joint_names=False)


def trained(model, trainer, pre_tokenizer, decoder, **specials):
    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoder
    backend.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", **specials)


def byte_pairs():
    return trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=["</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )


def sentence_pieces(*, signs=("+", "-", "▁+", "▁-")):
    """As SentencePiece does it: a space in front of every text, bytes for what is not in the vocabulary."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *"▁0123456789abcdeknoprstwy=",
        *signs,
    ]
    backend = Tokenizer(models.Unigram([(piece, -float(len(piece) == 1)) for piece in pieces], 0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always"), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", bos_token="<s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with random weights, larger than usual so that scores differ."""
    path, tokenizer = tmp_path_factory.mktemp("model"), word_level()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    TokenLabelSettings().write(path)
    return path


@pytest.fixture(scope="module")
def scorer(folder):
    return TokenLabelScorer.load(folder, device="cpu")


# --- tokens ---


@pytest.mark.parametrize("make", [word_level, byte_pairs, sentence_pieces])
@pytest.mark.parametrize("text", ["+", "-", "\n"])
def test_labels_and_markers_are_one_token_of_all_kinds_of_tokenizers(make, text):
    tokenizer = make()
    assert tokenizer.decode([single_token(tokenizer, text)]).strip(" ") == text


@pytest.mark.parametrize(
    ("signs", "piece"), [(("+", "▁+"), "+"), (("▁+",), "▁+"), (("-",), "<0x2B>")], ids=["bare", "spaced", "byte"]
)
def test_the_bare_piece_is_preferred_to_the_one_with_a_space_and_that_to_a_byte(signs, piece):
    tokenizer = sentence_pieces(signs=signs)
    assert tokenizer.convert_ids_to_tokens(single_token(tokenizer, "+")) == piece


@pytest.mark.parametrize("text", ["ки", ""])
def test_a_text_of_several_tokens_or_none_is_refused(text):
    with pytest.raises(ValueError, match="is not one token of this tokenizer"):
        single_token(word_level(), text)


def test_an_unknown_sign_is_refused():
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "+": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")
    with pytest.raises(ValueError, match=r"'-' is not one token of this tokenizer, it becomes \['<unk>'\]"):
        StepEncoder(tokenizer, "+")


def test_a_marker_follows_the_problem_each_observation_and_each_step():
    tokenizer = word_level()
    encoder = StepEncoder(tokenizer)
    attempt = StepLabels("add 2", ("2 + 3", "5"), observations=("", "a dark room"))
    words = ["add", " 2", "\n", "2", " +", " 3", "\n", "a", " dark", " room", "\n", "5", "\n"]
    encoded = encoder.encode(attempt)
    assert tokenizer.convert_ids_to_tokens(list(encoded.token_ids)) == words
    assert (encoded.starts, encoded.places) == ((3, 11), (6, 12))


def test_sequences_begin_as_the_tokenizer_begins_them():
    tokenizer = sentence_pieces()
    assert StepEncoder(tokenizer).encode(StepLabels("a", ("b",))).token_ids[0] != tokenizer.bos_token_id
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    ids = StepEncoder(tokenizer).encode(StepLabels("a", ("b",))).token_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.bos_token_id not in ids[1:]


# --- scores ---

ATTEMPTS = [
    StepLabels("add 2 and 3", ("2 + 3 = 5", "5 - 1 = 4", "take it")),
    StepLabels("add 2", ("2 + 3 = 4",), observations=("a dark room",)),
    StepLabels("open", ()),
    StepLabels("add 2 and 3", ("2 + 3 = 5",)),
]


def slow_scores(scorer, attempt):
    """Each step by a forward pass of its own over the text up to it, the probability written out."""
    tokenizer, scores = scorer.tokenizer, []
    plus, minus = tokenizer.convert_tokens_to_ids(["+", "-"])
    for count in range(1, len(attempt.steps) + 1):
        ids = tokenizer(attempt.input + "\n").input_ids
        for observation, step in zip(attempt.observations[:count], attempt.steps[:count], strict=True):
            ids += (tokenizer(observation + "\n").input_ids if observation else []) + tokenizer(step + "\n").input_ids
        with torch.no_grad():
            logits = scorer.model(torch.tensor([ids])).logits[0, -1].double()
        scores.append(float(logits[plus].exp() / (logits[plus].exp() + logits[minus].exp())))
    return scores


def test_all_steps_are_scored_in_one_pass_as_they_are_one_by_one(scorer):
    found = scorer.step_scores(ATTEMPTS)
    for scores_S, attempt in zip(found, ATTEMPTS, strict=True):
        np.testing.assert_allclose(scores_S, slow_scores(scorer, attempt), atol=TOLERANCE)
    assert np.ptp(np.concatenate(found)) > 0.1


def test_later_steps_do_not_change_earlier_scores(scorer):
    whole, first = scorer.step_scores([ATTEMPTS[0], ATTEMPTS[3]])
    np.testing.assert_allclose(whole[:1], first, atol=TOLERANCE)


HISTORIES = [
    History("take the key", "a dark room", ("open it", "take the key")),
    History("add 2", "5", ("open it", "take it"), (Step("a dark room", (), Action("open", reply="please open")),)),
]


def pairs():
    return zip(*((h, Action(command)) for h in HISTORIES for command in h.admissible_commands), strict=True)


def test_actions_are_scored_as_the_last_step_of_their_history(scorer):
    histories, actions = pairs()
    expected = [slow_scores(scorer, StepLabels.of_turn(h, a))[-1] for h, a in zip(histories, actions, strict=True)]
    np.testing.assert_allclose(scorer.score(histories, actions), expected, atol=TOLERANCE)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize(("how", "reduce"), [("min", min), ("mean", np.mean), ("product", np.prod)])
def test_actions_can_be_scored_by_all_steps_so_far(folder, scorer, how, reduce):
    settings = TokenLabelSettings(aggregate=how)
    whole = TokenLabelScorer(scorer.model, scorer.tokenizer, settings)
    histories, actions = pairs()
    expected = [reduce(slow_scores(scorer, StepLabels.of_turn(h, a))) for h, a in zip(histories, actions, strict=True)]
    np.testing.assert_allclose(whole.score(histories, actions), expected, atol=TOLERANCE)


def test_the_scorer_keeps_the_contract_of_scorers(scorer):
    histories, actions = pairs()
    check_scorer(scorer, histories, actions, tolerance=TOLERANCE)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3),
        MistralConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
            max_position_embeddings=128, initializer_range=0.3, sliding_window=64,
        ),
    ],
)  # fmt: skip
def test_other_models_score_alike_also_those_whose_attention_takes_no_tree(scorer, config):
    torch.manual_seed(0)
    config.vocab_size = len(scorer.tokenizer)
    other = TokenLabelScorer(AutoModelForCausalLM.from_config(config).eval(), scorer.tokenizer)
    histories, actions = pairs()
    expected = [slow_scores(other, StepLabels.of_turn(h, a))[-1] for h, a in zip(histories, actions, strict=True)]
    np.testing.assert_allclose(other.score(histories, actions), expected, atol=TOLERANCE)
    assert np.ptp(expected) > 0.01


def test_what_is_too_long_is_refused_and_of_an_agents_turns_the_oldest_go(scorer):
    # "add 2", "a dark room", "open it now please" with their markers are 3, 4 and 5 tokens; "take it" is 3.
    short = TokenLabelScorer(scorer.model, scorer.tokenizer, TokenLabelSettings(max_tokens=10))
    with pytest.raises(ValueError, match="reads at most 10 tokens, an attempt has 12"):
        short.step_scores([StepLabels("add 2", ("open it now please",), observations=("a dark room",))])
    history = History("add 2", "a dark room", (), (Step("a dark room", (), Action("open it now please")),))
    whole = StepLabels("add 2", ("take it",), observations=("a dark room",))
    np.testing.assert_allclose(short.score([history], [Action("take it")]), slow_scores(scorer, whole), atol=TOLERANCE)
    with pytest.raises(ValueError, match="an attempt has 12"):
        short.score([history], [Action("open it now please")])


# --- use ---


class Proposer(Agent):
    name = "proposer"

    def sample(self, histories, n=1):
        return [[Action(command) for command in history.admissible_commands[:n]] for history in histories]


def test_best_of_n_takes_what_the_model_scores_highest(scorer):
    scores = scorer.score([HISTORIES[0]] * 2, [Action("open it"), Action("take the key")])
    chosen = BestOfN(Proposer(), scorer, 2).act(HISTORIES[0])
    assert chosen.command == ("open it", "take the key")[int(scores.argmax())]
    assert chosen.scores["step_labels"] == pytest.approx(scores.max())


def test_a_beam_is_judged_by_the_model(scorer):
    generator = LocalGenerator(scorer.model, scorer.tokenizer, max_new_tokens=4)
    judge = aggregated(scorer, "mean")
    search = {"separator": " ", "beam_width": 2, "beam_factor": 3, "max_steps": 2}
    found = beam_search(generator, "add 2 and 3\n", judge, problem="add 2 and 3", **search)
    scores = [float(np.mean(slow_scores(scorer, StepLabels("add 2 and 3", each.steps)))) for each in found.candidates]
    np.testing.assert_allclose([each.score for each in found.candidates], scores, atol=TOLERANCE)
    assert len(scores) == 2
    assert scores[0] > scores[1]


def test_step_rewards_pay_the_score_of_each_turn(scorer):
    steps = (Step("a dark room", (), Action("open it")), Step("5", (), Action("take it"), 1.0, terminated=True))
    (paid,) = rewarded([Trajectory("add 2", 0, steps, "now")], [Weighted(scorer, 0.5)])
    expected = slow_scores(scorer, StepLabels("add 2", ("open it", "take it"), observations=("a dark room", "5")))
    np.testing.assert_allclose([step.process_reward for step in paid.steps], np.multiply(0.5, expected), atol=TOLERANCE)


def test_a_saved_scorer_scores_alike(scorer, tmp_path):
    settings = TokenLabelSettings(aggregate="min", reads="command")
    TokenLabelScorer(scorer.model, scorer.tokenizer, settings).save(tmp_path / "model")
    loaded = TokenLabelScorer.load(tmp_path / "model", device="cpu")
    assert loaded.settings == settings
    for found, expected in zip(loaded.step_scores(ATTEMPTS), scorer.step_scores(ATTEMPTS), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert load_tokenizer(tmp_path / "model").chat_template


def test_folders_of_other_models_and_wrong_settings_are_refused(tmp_path):
    with pytest.raises(StoreError, match="holds no step-label model"):
        TokenLabelScorer.load(tmp_path)
    (tmp_path / "step_labels.json").write_text(json.dumps({"settings_version": 9}))
    with pytest.raises(StoreError, match="settings_version 9"):
        TokenLabelScorer.load(tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        TokenLabelSettings(aggregate="men")
    with pytest.raises(UnknownNameError, match="'command'"):
        TokenLabelSettings(reads="comand")
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        TokenLabelSettings(max_tokens=0)
