import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.errors import StoreError
from agentgym_prm.models import ModelConfig
from agentgym_prm.rewards.prm import ProcessRewardModel
from agentgym_prm.rewards.progress import ProgressEstimator, judge_progress, reply_ends
from agentgym_prm.testing import check_scorer
from agentgym_prm.transcript import Chat, Transcript
from agentgym_prm.types import Action, Step, Trajectory
from tests.chat_models import CHATML, FORGETFUL, chat_model, chat_tokenizer

TOLERANCE = 1e-5  # float32; sums in another order differ by about 1e-6
STATE = Prompt(
    "now",
    '{% set style = "state" %}{% set reply_format = "bare" %}{% set commands = "verbatim" %}'
    "{% block user %}{{ observation }}{% endblock %}",
)
PROMPTS = {"conversation": Prompt.load("bare"), "window": Prompt.load("bare", max_turns=2), "state": STATE}


tokenizer = lru_cache(chat_tokenizer)


def sampled(text):
    """An action as a policy samples it: its ids and the end token."""
    return Action(text, reply=text, token_ids=Chat(tokenizer()).reply_ids(text))


def episode(*turns, number=0):
    steps = tuple(Step(observation, (), sampled(command)) for observation, command in turns)
    return Trajectory("open door", 0, steps, "", task_id=f"task {number}", episode=number)


EPISODES = [
    episode(("dark", "look"), ("key", "take key")),
    episode(("a lamp", "go to door"), ("light room", "look"), ("key", "open door"), ("dark", "take a lamp"), number=1),
    episode(("you see a key , a lamp and a door", "help"), number=2),
    episode(("dark", "<think> light </think> look"), ("key", "take key"), ("a door", "open door"), number=3),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name, template in (("chatml", CHATML), ("forgetful", FORGETFUL)):
        made[name] = tmp_path_factory.mktemp(name)
        chat_model().save_pretrained(made[name])
        chat_tokenizer(template).save_pretrained(made[name])
    return made


@lru_cache
def start(folder, prompt="conversation", **options):
    config = ModelConfig(str(folder), device="cpu", dtype="float32")
    estimator = ProgressEstimator.start(config, PROMPTS[prompt], **options)
    # A head of zero would make every comparison of contributions true.
    generator = torch.Generator().manual_seed(options.get("seed", 0))
    head = estimator.model.score.weight
    with torch.no_grad():
        head.copy_(torch.randn(head.shape, generator=generator) / (head.shape[1] + 1) ** 0.5)
    return estimator


def words(token_ids):
    return tokenizer().convert_ids_to_tokens(list(token_ids))


# --- where contributions are read ---

FIRST_TURN = [
    "<|im_start|>", "user", "\n", "dark", "<|im_end|>", "\n",  # 0-5
    "<|im_start|>", "assistant", "\n", "look", "<|im_end|>",  # 6-10
]  # fmt: skip
SECOND_TURN = [
    "\n", "<|im_start|>", "user", "\n", "key", "<|im_end|>", "\n",  # 11-17
    "<|im_start|>", "assistant", "\n", "take", " ", "key", "<|im_end|>",  # 18-24
]  # fmt: skip


def test_a_conversation_is_one_row_read_at_the_end_token_of_each_reply(folders):
    (reading,) = start(folders["chatml"]).readings(EPISODES[0])
    assert words(reading.token_ids) == FIRST_TURN + SECOND_TURN
    assert reading.places == (10, 24)


def test_a_state_prompt_is_a_row_for_each_turn_read_at_its_end(folders):
    first, second = start(folders["chatml"], "state").readings(EPISODES[0])
    assert (words(first.token_ids), first.places) == (FIRST_TURN, (10,))
    # Without the line break that goes before a later message.
    assert (words(second.token_ids), second.places) == (SECOND_TURN[1:], (12,))


def test_a_reply_that_was_cut_is_read_at_its_last_sampled_token(folders):
    cut = replace(sampled("look"), token_ids=sampled("look").token_ids[:-1], stop_reason="length")
    first, second = EPISODES[0].steps
    (reading,) = start(folders["chatml"]).readings(replace(EPISODES[0], steps=(replace(first, action=cut), second)))
    # The end token is written by the template then: the same ids, but it is no part of the reply.
    assert words(reading.token_ids) == FIRST_TURN + SECOND_TURN
    assert reading.places == (9, 24)


def test_replies_that_touch_each_other_are_told_apart_by_their_turn():
    transcript = Transcript().with_context((1,), 0).with_action((7, 2), (), 0).with_action((8, 9, 2), (), 1)
    assert reply_ends(transcript) == (2, 5)
    assert reply_ends(Transcript().with_context((1, 2), 0)) == ()


def test_history_that_is_rewritten_makes_further_rows_and_each_reply_is_read_once(folders):
    windowed = start(folders["chatml"], "window").readings(EPISODES[1])
    assert [len(reading.places) for reading in windowed] == [2, 1, 1]
    forgetful = start(folders["forgetful"]).readings(EPISODES[3])
    assert [len(reading.places) for reading in forgetful] == [1, 2]


# --- what a contribution is ---


@lru_cache(2)
def classifier(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()


def slow(estimator, folder, trajectory):
    """Each turn by Hugging Face's own class, on what was seen up to its end and nothing else, without padding."""
    expected = []
    for reading in estimator.readings(trajectory):
        for place in reading.places:
            with torch.no_grad():
                logits = classifier(folder)(input_ids=torch.tensor([reading.token_ids[: place + 1]])).logits
            expected.append(logits.item())
    return expected


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("batch_tokens", [1, 60, 16384])
def test_contributions_are_what_hugging_faces_own_forward_pass_gives_turn_by_turn(
    folders, tmp_path, prompt, batch_tokens
):
    """So neither padding nor other episodes of the batch nor later turns change them."""
    estimator = start(folders["chatml"], prompt, batch_tokens=batch_tokens)
    estimator.save(tmp_path)
    contributions = estimator.contributions(EPISODES)
    assert [len(each) for each in contributions] == [2, 4, 1, 3]
    for found, trajectory in zip(contributions, EPISODES, strict=True):
        assert found.tolist() == pytest.approx(slow(estimator, tmp_path, trajectory), abs=TOLERANCE)
        alone = estimator.contributions([trajectory])[0]
        assert found.tolist() == pytest.approx(alone.tolist(), abs=TOLERANCE)
    assert np.std(np.concatenate(contributions)) > 1000 * TOLERANCE


@pytest.mark.parametrize("template", ["chatml", "forgetful"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_scores_online_are_the_contributions_of_the_finished_episode(folders, template, prompt):
    estimator = start(folders[template], prompt)
    for trajectory, contributions in zip(EPISODES, estimator.contributions(EPISODES), strict=True):
        actions = [step.action for step in trajectory.steps]
        scores = estimator.score(trajectory.histories(), actions)
        assert scores.tolist() == pytest.approx(contributions.tolist(), abs=TOLERANCE)


def test_the_contract_of_scorers_holds(folders):
    for prompt in PROMPTS:
        pairs = [(h, step.action) for t in EPISODES for h, step in zip(t.histories(), t.steps, strict=True)]
        histories, actions = map(list, zip(*pairs, strict=True))
        check_scorer(start(folders["chatml"], prompt), histories, actions, tolerance=TOLERANCE)
    with pytest.raises(ValueError, match="2 histories and 1 actions"):
        start(folders["chatml"]).score(histories[:2], actions[:1])
    assert start(folders["chatml"]).contributions([]) == []


def test_candidates_after_one_history_are_told_apart(folders):
    history = EPISODES[1].history(2)
    candidates = [Action(command) for command in ("look", "take key", "go")]
    scores = start(folders["chatml"]).score([history] * 3, candidates)
    assert len(set(scores.tolist())) == 3


def test_sampled_ids_are_never_encoded_again_and_commands_without_ids_are_encoded_once(folders):
    estimator = start(folders["chatml"])
    sampled_steps = EPISODES[0].steps
    demonstration = tuple(replace(step, action=Action(step.action.command)) for step in sampled_steps)
    unusual = replace(sampled_steps[0].action, token_ids=(0, 2))  # an <unk> whose text is "look" all the same
    odd = (replace(sampled_steps[0], action=unusual), sampled_steps[1])
    original, encoded, other = estimator.contributions(
        [replace(EPISODES[0], steps=steps) for steps in (sampled_steps, demonstration, odd)]
    )
    assert encoded.tolist() == pytest.approx(original.tolist(), abs=TOLERANCE)
    assert np.abs(other - original).min() > 100 * TOLERANCE
    histories = [replace(EPISODES[0], steps=steps).history(1) for steps in (sampled_steps, demonstration, odd)]
    scores = estimator.score(histories, [Action("take key")] * 3)
    assert scores.tolist() == pytest.approx([original[1], original[1], other[1]], abs=TOLERANCE)


# --- long episodes ---


def test_a_transcript_that_is_too_long_is_refused_and_never_cut(folders):
    assert start(folders["chatml"], max_length=25).contributions(EPISODES[:1])[0].shape == (2,)
    tight = start(folders["chatml"], max_length=24)
    message = "episode 0 of 'task 0' takes 25 tokens, more than max_length 24: nothing is cut off; raise it, or use"
    with pytest.raises(ValueError, match=message):
        tight.contributions(EPISODES[:1])
    with pytest.raises(ValueError, match="turn 1 of 'task 0' takes 25 tokens"):
        tight.score([EPISODES[0].history(1)], [EPISODES[0].steps[1].action])
    # The way out: rows of one turn each.
    assert start(folders["chatml"], "state", max_length=24).contributions(EPISODES[:1])[0].shape == (2,)


def test_the_models_positions_are_a_limit_too(folders):
    estimator = start.__wrapped__(folders["chatml"])
    estimator.model.config.max_position_embeddings = 20
    with pytest.raises(ValueError, match="more than the model's positions, 20"):
        estimator.contributions(EPISODES[:1])


def test_prompts_are_as_long_as_the_policys_were(folders):
    """With a limit on the prompt the oldest turns go first, as they did for the policy."""
    estimator = start(folders["chatml"], max_tokens=40)  # the prompts take 9, 27 and, without a limit, 43 tokens
    policy = Encoder(PROMPTS["conversation"], Chat(tokenizer()), 40)
    assert [reading.token_ids for reading in estimator.readings(EPISODES[3])] == [
        transcript.token_ids for transcript in policy.trajectory(EPISODES[3])
    ]
    assert [len(reading.places) for reading in estimator.readings(EPISODES[3])] == [2, 1]


# --- start, save, load ---


def test_an_untrained_estimator_gives_every_turn_nothing(folders):
    config = ModelConfig(str(folders["chatml"]), device="cpu")
    estimator = ProgressEstimator.start(config, PROMPTS["conversation"])
    assert not estimator.model.score.weight.any()
    assert all(not contributions_S.any() for contributions_S in estimator.contributions(EPISODES[:2]))


@pytest.mark.parametrize("prompt", ["window", "state"])
def test_a_saved_estimator_gives_bit_by_bit_the_same(folders, tmp_path, prompt):
    estimator = start(folders["chatml"], prompt, max_length=500, max_tokens=300, seed=3)
    estimator.save(tmp_path, "# A card")
    loaded = ProgressEstimator.load(tmp_path, device="cpu")
    assert (loaded.prompt, loaded.max_length, loaded.encoder.max_tokens) == (PROMPTS[prompt], 500, 300)
    assert (tmp_path / "README.md").read_text() == "# A card"
    pairs = zip(loaded.contributions(EPISODES), estimator.contributions(EPISODES), strict=True)
    assert all(one.tolist() == other.tolist() for one, other in pairs)
    untrained = start(folders["chatml"], prompt, seed=4).contributions(EPISODES)[0]
    assert untrained.tolist() != estimator.contributions(EPISODES)[0].tolist()


def test_a_folder_of_something_else_is_refused(folders, tmp_path):
    with pytest.raises(StoreError, match="holds no progress estimator"):
        ProgressEstimator.load(folders["chatml"])
    start(folders["chatml"]).save(tmp_path)
    with pytest.raises(StoreError, match="holds no process reward model"):
        ProcessRewardModel.load(tmp_path)
    record = json.loads((tmp_path / "progress.json").read_text())
    for text in (json.dumps({**record, "settings_version": 2}), "{", "[]"):
        (tmp_path / "progress.json").write_text(text)
        with pytest.raises(StoreError, match=r"progress\.json"):
            ProgressEstimator.load(tmp_path)


def test_wrong_arguments_are_refused(folders):
    estimator = start(folders["chatml"])
    with pytest.raises(ValueError, match="episode 7 of 't' has no turns"):
        estimator.contributions([Trajectory("", 0, (), "", task_id="t", episode=7)])
    for name in ("max_length", "batch_tokens"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            ProgressEstimator(estimator.model, estimator.tokenizer, STATE, **{name: 0})


# --- how it is judged ---


def test_quality_is_that_of_hand_arithmetic():
    contributions = [np.array([0.75, 0.25]), np.array([0.0, 0.25, 0.25]), np.array([0.0])]
    quality = judge_progress(contributions, [1.0, 0.0, 0.0], 0.5)
    # Sums 1, 1/2, 0: errors 0, 1/2, 0. The mean errs by 1/2 each time.
    assert quality.mean_squared_error == pytest.approx(1 / 12)
    assert quality.baseline == pytest.approx(1 / 4)
    assert quality.r2 == pytest.approx(2 / 3)
    # Deviations (1/2, 0, -1/2) and (2/3, -1/3, -1/3): 1/2 / sqrt(1/2 * 2/3).
    assert quality.correlation == pytest.approx(0.5 / (1 / 3) ** 0.5)
    # First halves, rounded up: 0.75, 0 + 0.25, 0: deviations (5, -1, -4) / 12: 1/2 / sqrt(42/144 * 2/3) with
    # products (10 + 1 + 4) / 36.
    assert quality.early_correlation == pytest.approx((15 / 36) / (42 / 144 * 2 / 3) ** 0.5)
    assert quality.episodes == 3
    assert json.loads(json.dumps(quality.to_json()))["r2"] == quality.r2


def test_what_is_undefined_is_none():
    quality = judge_progress([np.array([0.5]), np.array([0.5])], [1.0, 1.0], 1.0)
    assert (quality.r2, quality.correlation, quality.early_correlation) == (None, None, None)
    with pytest.raises(ValueError, match="contributions of 0 episodes and 0 outcomes"):
        judge_progress([], [], 0.5)
    with pytest.raises(ValueError, match="contributions of 1 episodes and 2 outcomes"):
        judge_progress([np.array([0.5])], [1.0, 0.0], 0.5)
