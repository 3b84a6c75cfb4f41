import numpy as np
import pytest
import torch

from agentgym_prm import RandomAgent, collect
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.envs import TOY
from agentgym_prm.errors import UnknownNameError, UsageError
from agentgym_prm.evaluate import make_envs
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny, load_model
from agentgym_prm.rewards.core import AdvantageScorer
from agentgym_prm.rewards.prm import PRMSettings, ProcessRewardModel
from agentgym_prm.rewards.progress import ProgressEstimator
from agentgym_prm.rewards.specification import RewardSpecification, load_terms
from agentgym_prm.rewards.token_labels import TokenLabelScorer
from agentgym_prm.rewards.wrappers import rewarded
from agentgym_prm.types import Action

parse = RewardSpecification.parse


@pytest.fixture(scope="module")
def episodes():
    envs = make_envs(TOY, 3)
    try:
        return collect(RandomAgent(0), envs, range(3))
    finally:
        envs.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory, episodes):
    """Untrained judges of each kind, as their stages would leave them: in FOLDER/model."""
    folder = tmp_path_factory.mktemp("models")
    texts = [step.observation for episode in episodes for step in episode.steps]
    build_tiny(folder / "body", texts, TinyConfig(hidden_size=16, num_heads=2, num_layers=1, intermediate_size=32))
    body, prompt = ModelConfig(str(folder / "body"), device="cpu"), Prompt.load("bare")
    for name, judges in (("prm", "action"), ("value", "history")):
        ProcessRewardModel.start(body, prompt, PRMSettings(judges=judges, reads="command")).save(
            folder / name / "model"
        )
    progress = ProgressEstimator.start(body, prompt)
    torch.nn.init.ones_(progress.model.score.weight)  # it starts at zero, as if it paid nothing
    progress.save(folder / "spa" / "model")
    return folder


@pytest.mark.parametrize(
    ("text", "kind", "argument", "coef"),
    [
        ("rubric:step_price", "rubric", "step_price", 1.0),
        ("rubric:repeated_command@-0.1", "rubric", "repeated_command", -0.1),
        ("rubric:valid_action@5e-1", "rubric", "valid_action", 0.5),
        ("shaping:gcsr@2", "shaping", "gcsr", 2.0),
    ],
)
def test_kind_argument_and_coefficient_are_told_apart(text, kind, argument, coef):
    assert parse(text) == RewardSpecification(kind, argument, coef)
    assert parse(str(parse(text))) == parse(text)


def test_a_folder_may_hold_colons_and_at_signs(models, tmp_path):
    folder = tmp_path / "a:b" / "me@host@0.5"
    folder.parent.mkdir()
    folder.symlink_to(models / "prm")
    assert parse(f"prm:{folder}@1") == RewardSpecification("prm", str(folder), 1.0)
    assert parse(f"prm:{folder}/model").coef == 1.0  # what follows the last @ is no number
    with pytest.raises(UsageError, match="there is no folder"):
        parse(f"prm:{folder}")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("prmm:x", UnknownNameError, "unknown kind of reward 'prmm' (did you mean 'prm'?)"),
        ("rubric:valid_acton", UnknownNameError, "(did you mean 'valid_action'?)"),
        ("shaping:valu:x", UnknownNameError, "unknown potential of shaping 'valu' (did you mean 'value'?)"),
        ("prm", UsageError, "the reward 'prm' does not say of what"),
        ("rubric:@2", UsageError, "does not say of what"),
        ("rubric:valid_action@nan", UsageError, "the coefficient of 'rubric:valid_action@nan' must be finite"),
        ("rubric:valid_action@-inf", UsageError, "must be finite"),
        ("shaping:value", UsageError, "write shaping:value:FOLDER"),
        ("shaping:gcsr:x", UsageError, "takes no folder, got 'x'"),
        ("spa:nowhere", UsageError, "there is no folder nowhere, no progress estimator"),
        ("spa:{models}/prm", UsageError, "holds a process reward model, no progress estimator"),
        ("prm:{models}/spa@2", UsageError, "holds a progress estimator, no process reward model"),
        ("prm:{models}", UsageError, "holds no model that judges, no process reward model"),
    ],
)
def test_errors_name_what_is_wrong_and_what_there_is(text, error, message, models):
    with pytest.raises(error) as caught:
        parse(text.format(models=models))
    assert message in str(caught.value)


def test_a_value_model_and_a_judge_of_actions_are_not_mixed_up(models):
    with pytest.raises(UsageError, match="is a value model: use it as shaping:value:"):
        parse(f"prm:{models}/value").term(device="cpu")
    with pytest.raises(UsageError, match="judges actions, not histories: use it as prm:"):
        parse(f"shaping:value:{models}/prm").term(device="cpu")


def test_each_kind_pays_what_its_model_says(models, episodes):
    texts = (
        f"prm:{models}/prm@0.5",
        f"prm-advantage:{models}/prm@0.5",
        f"prm-score:{models}/prm",
        f"spa:{models}/spa@2",
        f"shaping:value:{models}/value",
    )
    terms = load_terms([parse(text) for text in texts], gamma=0.9, device="cpu")
    assert [term.name for term in terms] == ["regret_prm", "advantage_prm", "prm", "progress", "shaping_prm"]
    (first, *_) = rewarded(episodes, terms)
    prm = ProcessRewardModel.load(models / "prm" / "model", device="cpu")
    value = ProcessRewardModel.load(models / "value" / "model", device="cpu")
    progress = ProgressEstimator.load(models / "spa" / "model", device="cpu")
    history, action = episodes[0].history(0), episodes[0].steps[0].action
    after = episodes[0].history(1)
    paid = first.steps[0].info["reward_terms"]
    assert paid == pytest.approx(
        {
            "outcome": episodes[0].steps[0].outcome_reward,
            "regret_prm": 0.5 * AdvantageScorer(prm, "best").score([history], [action])[0],
            "advantage_prm": 0.5 * AdvantageScorer(prm).score([history], [action])[0],
            "prm": prm.score([history], [action])[0],
            "progress": 2 * progress.score([history], [action])[0],
            "shaping_prm": 0.9 * value.values([after])[0] - value.values([history])[0],
        },
        abs=1e-5,
    )  # rounding of float32 in batches


def test_two_terms_of_one_name_are_numbered(models):
    terms = load_terms([parse("rubric:step_price"), parse("rubric:step_price@2"), parse("rubric:valid_action")])
    assert [(term.name, term.coef) for term in terms] == [
        ("step_price", 1.0), ("step_price_2", 2.0), ("valid_action", 1.0),
    ]  # fmt: skip


def test_a_judge_orders_actions_and_a_rubric_is_none(models, episodes):
    history = next(history for history in episodes[0].histories() if len(history.admissible_commands) > 1)
    from agentgym_prm.types import Action

    actions = [Action(command) for command in history.admissible_commands]
    scores = parse(f"prm:{models}/prm").scorer(device="cpu").score([history] * len(actions), actions)
    advantages = parse(f"prm:{models}/prm").term(device="cpu")
    assert np.ptp(scores) > 0
    assert advantages.name == "regret_prm"
    with pytest.raises(UsageError, match="rubric:step_price judges turns that are over: an action is judged by prm"):
        parse("rubric:step_price").scorer()


def test_a_model_of_steps_is_paid_as_a_reward_model_is(models, episodes, tmp_path):
    """The score of each command less that of the best one, both P(+) of the command as the next step."""
    loaded = load_model(ModelConfig(str(models / "body"), device="cpu"))
    model = TokenLabelScorer(loaded.model, loaded.tokenizer)
    model.save(tmp_path / "steps" / "model")
    (weighted,) = load_terms([parse(f"prm:{tmp_path / 'steps'}@2")], device="cpu")
    paid = [step.process_reward for each in rewarded(episodes[:1], [weighted]) for step in each.steps]
    for history, step, found in zip(episodes[0].histories(), episodes[0].steps, paid, strict=True):
        commands = [step.action.command, *history.admissible_commands]
        own, *others = model.score([history] * len(commands), [Action(command) for command in commands])
        assert found == pytest.approx(2 * (own - max(others)), abs=1e-5)
    with pytest.raises(UsageError, match="holds a step-label model, no progress estimator"):
        parse(f"spa:{tmp_path / 'steps'}")
