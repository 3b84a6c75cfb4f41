import copy
import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.agents.scripted import NoisyAgent
from agentgym_prm.algos.core import Logged, Rollouts, Source
from agentgym_prm.algos.online_dpo import OnlineDPOConfig, OnlineDPOTrainer, preferred
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.processes import Processes
from agentgym_prm.algos.sft import SFTConfig, make_examples, sft
from agentgym_prm.envs import TOY
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.envs.toy import toy_engine, toy_model
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.evaluate import make_envs
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny, load_model
from agentgym_prm.rewards.core import FunctionScorer, RandomScorer
from agentgym_prm.rewards.oracle import ToyOracle
from agentgym_prm.rollout import collect
from agentgym_prm.testing import ScriptedAgent, ScriptedEnv
from agentgym_prm.transcript import Message
from agentgym_prm.types import Action, History, Step, Trajectory
from tests.chat_models import chat_model, chat_tokenizer

TASKS = (("open door", "take key", "look", "go to lamp"), ("look", "inventory", "take lamp"))
MODES = ["generate", "choose"]
TOLERANCE = 1e-4  # float32; sums in another order differ by about 1e-6
CONFIG = OnlineDPOConfig(
    updates=3, tasks=3, histories=20, samples=3, beta=0.2, learning_rate=1e-2, checkpoint_every=1, max_grad_norm=1e9
)


def agent(mode="choose", model=None, **options):
    model = copy.deepcopy(chat_model()) if model is None else model
    options = {"max_new_tokens": 5, "seed": 3, "temperature": 0.8, **options}
    return LocalAgent(model, chat_tokenizer(), "bare", mode=mode, **options)


def environments():
    return TextVectorEnv(lambda: ScriptedEnv(TASKS), 3, max_episode_steps=4)


def quality(history, action):
    """Some number that depends on history and reply, with a few equal ones."""
    return (sum(map(ord, action.command)) % 11 + len(history.steps)) / 20


SCORER = FunctionScorer(quality)


def trainer(mode="choose", *, policy=None, source=None, scorer=SCORER, run_dir=None, processes=None, **changes):
    config = replace(CONFIG, **changes)
    policy = Policy(agent(mode)) if policy is None else policy
    source = Rollouts(environments(), range(4)) if source is None else source
    return OnlineDPOTrainer(policy, scorer, config, source, run_dir=run_dir, processes=processes)


def played(mode="choose", games=3):
    return collect(agent(mode), environments(), range(games))


def disturbed(model, size=0.05):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))


def weights(policy):
    return {name: value.detach().clone() for name, value in policy.net.named_parameters() if value.requires_grad}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


# --- pairs ---


def replies(*names, cut=()):
    return [
        Action(name, token_ids=(ord(name[0]) - 90, 2), stop_reason="length" if place in cut else "end")
        for place, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("scores", "margin", "pair"),
    [
        ((0.2, 0.7), 0.0, (1, 0)),
        ((0.7, 0.2), 0.0, (0, 1)),
        ((0.5, 0.5), 0.0, None),  # a tie, whatever the margin
        ((0.25, 0.75), 0.5, (1, 0)),  # the difference is the margin: exact in binary
        ((0.25, 0.75), 0.5000001, None),
        ((0.3, 0.9, 0.1, 0.4), 0.0, (1, 2)),  # of four the best and the worst
        ((0.9, 0.1, 0.9, 0.1), 0.0, (0, 1)),  # of equal ones the first
    ],
)
def test_the_best_and_the_worst_reply_make_a_pair_if_they_differ_enough(scores, margin, pair):
    assert preferred(replies("abcd"[: len(scores)], *"bcd"[: len(scores) - 1]), np.array(scores), margin=margin) == pair


def test_the_same_reply_twice_is_no_pair_even_if_its_scores_are_rounded_differently():
    assert preferred(replies("a", "a"), np.array([0.5, 0.5 + 1e-9]), margin=0) is None
    assert preferred(replies("a", "b"), np.array([0.5, 0.5 + 1e-9]), margin=0) == (1, 0)


def test_only_samples_can_be_the_worse_reply():
    scores = np.array([0.5, 0.4, 0.9, 0.1])
    assert preferred(replies("a", "b", "c", "d"), scores, margin=0, samples=2) == (2, 1)
    # Both samples are as good as the best of all.
    assert preferred(replies("a", "b", "c"), np.array([0.5, 0.5, 0.1]), margin=0, samples=2) is None


class Fixed(LocalAgent):
    """Gives the replies that it was made with, in turn."""

    groups: list

    def sample(self, histories, n=1):
        return [[*self.groups[number % len(self.groups)]] for number in range(len(histories))]


def judged(groups, scores, **changes):
    """What becomes of replies with scores by their names; every action gets a log-probability."""
    sampler = Fixed(copy.deepcopy(chat_model()), chat_tokenizer(), "bare")
    sampler.groups = [
        [replace(a, reply=sampler.encoder.chat.decode(a.token_ids), logprobs=(-1.0,) * len(a.token_ids)) for a in group]
        for group in groups
    ]
    scorer = FunctionScorer(lambda history, action: scores[action.command])
    one = trainer(policy=Policy(sampler), scorer=scorer, samples=len(groups[0]), **changes)
    return one.judge([History("look", f"room {number}") for number in range(len(groups))])


def names(pair):
    return None if pair is None else tuple(action.command for action in pair)


def test_scores_decide_which_reply_is_chosen():
    found = judged([replies("a", "b"), replies("b", "c"), replies("c", "a")], {"a": 0.1, "b": 0.6, "c": 0.6})
    assert [names(each.pair) for each in found] == [("b", "a"), None, ("c", "a")]
    assert [each.scores for each in found] == [(0.1, 0.6), (0.6, 0.6), (0.6, 0.1)]


def test_a_reply_that_was_cut_off_gets_the_penalty_instead_of_its_score():
    groups = [replies("a", "b", cut=(1,)), replies("b", "a", cut=(0,)), replies("a", "b", cut=(0, 1))]
    found = judged(groups, {"a": 0.1, "b": 0.6}, missing_end_penalty=-2.0)
    assert [names(each.pair) for each in found] == [("a", "b"), ("a", "b"), None]
    assert [each.scores for each in found] == [(0.1, -2.0), (-2.0, 0.1), (-2.0, -2.0)]
    # Without the penalty b is better.
    assert names(judged([replies("a", "b")], {"a": 0.1, "b": 0.6})[0].pair) == ("b", "a")


def test_a_penalty_above_what_the_scorer_gives_is_refused():
    with pytest.raises(ValueError, match=r"missing_end_penalty must be below all scores.*-10.*gave -40"):
        judged([replies("a", "b", cut=(1,))], {"a": -40.0, "b": -50.0})


def test_with_commands_the_better_reply_is_the_best_of_all_and_the_worse_one_is_sampled():
    one = trainer(chosen_from="commands", samples=2)
    histories = one.histories(played())
    seen = 0
    for history, each in zip(histories, one.judge(histories), strict=True):
        best = max(quality(history, Action(command)) for command in history.admissible_commands)
        worst = min(quality(history, action) for action in each.samples)
        assert len(each.samples) == len(each.scores) == 2
        assert (each.pair is None) == (best == worst)
        if each.pair:
            chosen, rejected = each.pair
            assert quality(history, chosen) == best
            assert quality(history, rejected) == worst
            assert rejected in each.samples
            seen += chosen.command not in [action.command for action in each.samples]
    assert seen
    with pytest.raises(ValueError, match="mode='choose'"):
        trainer("generate", chosen_from="commands")


# --- the loss ---


def reply_logprob(player, model, history, action):
    """Slowly: one plain forward pass a reply, or one for each command that could have been chosen."""

    def token_logprobs(reply, temperature):
        prompt = player.encoder.history(history).token_ids
        logits = model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1]
        return torch.log_softmax(logits / temperature, -1).gather(1, torch.tensor(reply)[:, None]).sum()

    if player.mode == "generate":
        return token_logprobs(action.token_ids, player.temperature)
    totals = torch.stack([token_logprobs(reply, 1.0) for reply in player.replies(history)])
    return torch.log_softmax(totals / player.temperature, 0)[history.admissible_commands.index(action.command)]


def gradients_of(one):
    """The gradients of a trainer's steps, by parameter; it gives them up afterwards."""
    seen, step = {}, one.optimizer.step

    def recorded(*arguments):
        seen.update({name: weight.grad.clone() for name, weight in one.policy.agent.model.named_parameters()})
        return step(*arguments)

    one.optimizer.step = recorded
    return seen


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_loss_and_gradient_of_an_update_are_those_of_a_slow_loop(mode, kind):
    policy = Policy(agent(mode), batch_tokens=150)  # several forward passes
    policy.keep_reference()
    disturbed(policy.agent.model)
    one = trainer(mode, policy=policy, kind=kind, beta=0.3)
    trajectories = played(mode)

    slow, reference = copy.deepcopy(policy.agent.model), chat_model()
    slow.zero_grad()
    losses, ratios, scores = [], [], []
    histories = one.histories(trajectories)
    for history, samples in zip(histories, policy.agent.sample(histories, 3), strict=True):
        judgements = [quality(history, a) if a.stop_reason == "end" else -10.0 for a in samples]
        scores += judgements
        with torch.no_grad():
            first = [reply_logprob(policy.agent, model, history, samples[0]) for model in (slow, reference)]
        ratios.append(float(first[0] - first[1]))
        if max(judgements) == min(judgements):
            continue
        margin = 0.0
        for sign, action in ((1, samples[np.argmax(judgements)]), (-1, samples[np.argmin(judgements)])):
            fixed = reply_logprob(policy.agent, reference, history, action).detach()
            margin = margin + sign * (reply_logprob(policy.agent, slow, history, action) - fixed)
        losses.append(-torch.log(torch.sigmoid(0.3 * margin)) if kind == "sigmoid" else (margin - 1 / 0.6) ** 2)
    torch.stack(losses).mean().backward()

    gradients = gradients_of(one)
    metrics = one.update(trajectories)
    assert 1 < len(losses) < len(histories)
    assert metrics["train/loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=TOLERANCE)
    assert metrics["dpo/pairs_share"] == len(losses) / len(histories)
    assert metrics["reward/prm_mean"] == pytest.approx(sum(scores) / len(scores))
    assert metrics["policy/kl"] == pytest.approx(sum(ratios) / len(ratios), abs=TOLERANCE)
    expected = dict(slow.named_parameters())
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        largest = float(expected[name].grad.abs().max())
        assert torch.allclose(gradient, expected[name].grad, atol=TOLERANCE * max(largest, 1.0)), name
    assert max(float(weight.grad.abs().max()) for weight in slow.parameters()) > 0.1


@pytest.mark.parametrize("mode", MODES)
def test_the_first_update_starts_at_the_reference(mode):
    metrics = trainer(mode).update(played(mode))
    assert metrics["dpo/chosen_reward"] == metrics["dpo/rejected_reward"] == metrics["dpo/margin"] == 0.0
    assert metrics["train/loss"] == pytest.approx(math.log(2), rel=1e-6)  # of float32
    assert metrics["policy/kl"] == pytest.approx(0, abs=TOLERANCE)
    assert metrics["sampler/logprob_gap_max"] < TOLERANCE
    # IPO: (0 - 1 / (2 beta))**2, 6.25 for beta = 0.2.
    assert trainer(mode, kind="ipo").update(played(mode))["train/loss"] == pytest.approx(6.25)


def test_later_minibatches_do_not_start_there():
    metrics = trainer(minibatches=4, epochs=2).update(played())
    assert metrics["train/loss"] != pytest.approx(math.log(2), rel=1e-3)


def test_the_gap_shows_a_sampler_with_other_weights():
    one = trainer()
    trajectories = played()
    histories = one.histories(trajectories)
    before = one.judge(histories)
    disturbed(one.policy.agent.model)
    one.judge = lambda _: before
    assert one.update(trajectories)["sampler/logprob_gap_max"] > 100 * TOLERANCE


@pytest.mark.parametrize("mode", MODES)
def test_new_adapters_have_the_model_without_them_as_reference(mode):
    adapters = LoraConfig(r=2, lora_alpha=0.3, target_modules=["q_proj", "v_proj"])
    adapted = get_peft_model(copy.deepcopy(chat_model()), adapters)
    off = trainer(mode, policy=Policy(agent(mode, adapted)))
    assert sum(weight.numel() for weight in off.policy._reference) < 0.1 * chat_model().num_parameters()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in off.policy.parameters:
            weight.add_(0.3 * torch.randn_like(weight))  # as if trained
    kept = Policy(agent(mode))
    kept.keep_reference()
    kept.agent.model.load_state_dict(copy.deepcopy(adapted).merge_and_unload().state_dict())
    merged = trainer(mode, policy=kept)
    trajectories = played(mode)
    one, other = off.update(trajectories), merged.update(trajectories)
    assert abs(one["dpo/margin"]) > 0.01
    for name in ("train/loss", "dpo/margin", "dpo/accuracy", "dpo/chosen_reward", "policy/kl"):
        assert one[name] == pytest.approx(other[name], abs=TOLERANCE)


def test_without_any_pair_nothing_is_learned():
    one = trainer(scorer=FunctionScorer(lambda history, action: 0.5))
    before = weights(one.policy)
    metrics = one.update(played())
    assert metrics["dpo/pairs_share"] == 0
    assert metrics["reward/prm_mean"] == 0.5
    assert "train/loss" not in metrics
    assert same(before, weights(one.policy))


# --- histories and draws ---


def test_histories_are_those_of_the_batch_and_not_the_actions():
    trajectories = played()
    one = trainer(histories=1000)
    everything = [(h.seed, h.steps, h.observation) for each in trajectories for h in each.histories()]
    assert [(h.seed, h.steps, h.observation) for h in one.histories(trajectories)] == everything
    some = trainer(histories=4)
    first = some.histories(trajectories)
    some.done = 1
    assert len(first) == 4
    assert [h.steps for h in first] != [h.steps for h in some.histories(trajectories)]


def test_logged_actions_may_be_anyones_in_a_state_prompt():
    step = Step("dark room", ("look", "open door"), Action("look"))
    logged = [Trajectory("take key", 0, (step, step), "light")]
    player = LocalAgent(copy.deepcopy(chat_model()), chat_tokenizer(), "memory", mode="choose", temperature=5.0)
    report = trainer(policy=Policy(player), source=Logged(logged), updates=2).run()
    assert report.metrics["dpo/histories"] == 2


@pytest.mark.parametrize("mode", MODES)
def test_draws_differ_from_the_rollouts_and_from_pass_to_pass(mode):
    trajectories = played(mode, 30)
    one = trainer(mode, source=Logged(trajectories), histories=1000)
    taken = [step.action.token_ids for each in trajectories for step in each.steps]

    def drawn():
        return [each.samples[0].token_ids for each in one.judge(one.histories(trajectories))]

    first = drawn()
    assert first == drawn()
    one.done = 1
    second = drawn()
    repeated = [h for each in trajectories for h in each.histories()]
    again = [group[0].token_ids for group in one.policy.agent.sample(repeated)]
    assert again == taken  # what would happen with the episode numbers as they are
    for a, b in ((first, taken), (second, taken), (first, second)):
        assert sum(x == y for x, y in zip(a, b, strict=True)) < 0.9 * len(taken)


def test_rollouts_of_one_task_are_told_apart():
    twice = [*played(games=1), *played(games=1)]
    histories = trainer(histories=1000).histories(twice)
    assert len({(h.episode, len(h.steps)) for h in histories}) == len(histories)


# --- one step behind ---


class Watched(OnlineDPOTrainer):
    """Notes the weights before each update, and what was sampled."""

    def update(self, trajectories):
        self.seen = [*getattr(self, "seen", []), weights(self.policy)]
        self.asked = self.histories(trajectories)
        return super().update(trajectories)

    def judge(self, histories):
        found = super().judge(histories)
        self.found = [*getattr(self, "found", []), [each.samples for each in found]]
        return found


@pytest.mark.parametrize("behind", [False, True])
def test_samples_come_from_the_weights_of_one_update_before(behind):
    trajectories = played("generate")
    config = OnlineDPOConfig(updates=3, histories=20, samples=2, learning_rate=2e-2, one_step_behind=behind)
    one = Watched(Policy(agent("generate")), SCORER, config, Logged(trajectories))
    asked = []
    for update in range(3):
        one.done = update
        one.update(trajectories)
        asked.append(one.asked)
    different = 0
    for update in range(3):
        old, new = max(update - 1, 0), update
        samples = {}
        for which in (old, new):
            player = agent("generate")
            player.model.load_state_dict({n.removeprefix("model."): w for n, w in one.seen[which].items()})
            samples[which] = [tuple(group) for group in player.sample(asked[update], 2)]
        assert one.found[update] == samples[old if behind else new]
        different += samples[old] != samples[new]
    assert different == 2  # in all updates but the first


def test_sampling_behind_leaves_the_present_weights_alone():
    one = trainer(one_step_behind=True)
    trajectories = played()
    one.update(trajectories)
    one.done = 1
    before = weights(one.policy)
    one.judge(one.histories(trajectories))
    assert same(before, weights(one.policy))


# --- resuming, processes ---


class Killed(BaseException):
    pass


class Dying(Source):
    def __init__(self, source, update):
        self.source, self.update, self.fresh = source, update, source.fresh

    def batch(self, agent, update, config, processes):
        if update == self.update:
            raise Killed
        return self.source.batch(agent, update, config, processes)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_killed_and_resumed_run_ends_with_the_same_parameters_bit_by_bit(tmp_path, behind, killed_at):
    options = {"one_step_behind": behind, "minibatches": 2}
    whole = trainer(run_dir=tmp_path / "whole", **options)
    whole.run()
    fresh = Rollouts(environments(), range(4))
    with pytest.raises(Killed):
        trainer(run_dir=tmp_path / "killed", source=Dying(fresh, killed_at), **options).run()
    resumed = trainer(run_dir=tmp_path / "killed", **options)
    resumed.run(resume=True)
    assert same(weights(whole.policy), weights(resumed.policy))
    assert not same(weights(whole.policy), weights(Policy(agent())))

    def metrics(folder):
        lines = [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]

    assert metrics("killed") == metrics("whole")


class Threads(Processes):
    """Processes that are threads of this one."""

    def __init__(self, rank, count, barrier, board):
        for name, value in (("rank", rank), ("count", count), ("barrier", barrier), ("board", board)):
            object.__setattr__(self, name, value)

    def gather(self, items):
        self.board[self.rank] = list(items)
        self.barrier.wait(30)
        everything = [item for rank in range(self.count) for item in self.board[rank]]
        self.barrier.wait(30)
        return everything

    def share_weights(self, parameters):
        pass  # all started from the same

    def sum_gradients(self, parameters):
        parameters = list(parameters)
        grads = self.gather([[torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]])
        for number, parameter in enumerate(parameters):
            parameter.grad = sum(each[number] for each in grads)


@pytest.mark.parametrize("mode", MODES)
def test_several_processes_do_what_one_does(mode):
    trajectories = played(mode)
    alone = trainer(mode)
    gradients = gradients_of(alone)
    expected = alone.update(trajectories)
    barrier, board = threading.Barrier(3), {}
    team = [trainer(mode, processes=Threads(rank, 3, barrier, board)) for rank in range(3)]
    results, seen = {}, [gradients_of(each) for each in team]
    threads = [
        threading.Thread(target=lambda r=rank: results.update({r: team[r].update(trajectories)})) for rank in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(3):
        assert results[rank] == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)
        assert set(seen[rank]) == set(gradients)
        for name, gradient in seen[rank].items():
            assert torch.allclose(gradient, gradients[name], atol=TOLERANCE), name


# --- learning ---


class ToyPrompt(Prompt):
    """Shows the exact state, as one word: what can be learned is a table."""

    SOURCE = (
        "{% set style = 'state' %}{% set reply_format = 'bare' %}{% set commands = 'household' %}"
        "{% block user %}{% endblock %}"
    )

    def messages(self, history, dropped=None):
        return (Message("user", state_word(toy_engine(history).state)),)


def state_word(state):
    return "abcdef"[state.task_index] + state.room + "".join(state.places) + ("open" if state.open else "shut")


TOY_TASKS = range(3)
TOY_CAP = 12


@pytest.fixture(scope="module")
def toy_model_folder(tmp_path_factory):
    models = [toy_model(task) for task in TOY_TASKS]
    texts = [state_word(state) for model in models for state in model.states]
    texts += [command for model in models for commands in model.commands for command in commands]
    tiny = TinyConfig(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64)
    return build_tiny(tmp_path_factory.mktemp("toy"), texts * 3, tiny)


def toy_success(seed, folder, scorer):
    """Success before and after, on the toy tasks; a little imitation of a noisy expert comes first."""
    loaded = load_model(ModelConfig(str(folder), device="cpu"))
    player = LocalAgent(*loaded, ToyPrompt("toy", ToyPrompt.SOURCE), mode="choose", seed=seed)
    envs = make_envs(TOY, 24, max_episode_steps=TOY_CAP)
    oracle = ToyOracle()
    best = ScriptedAgent(
        lambda h: max(h.admissible_commands, key=lambda command: oracle.score([h], [Action(command)])[0])
    )
    demonstrations = collect(NoisyAgent(best, 0.3, seed), envs, [number % 3 for number in range(24)])
    sft(
        loaded.model,
        make_examples(demonstrations, player.encoder),
        SFTConfig(learning_rate=5e-3, optimizer="muon", epochs=2, seed=seed),
        pad_id=player.pad_id,
    )

    def success():
        games = collect(player, envs, [number % 3 for number in range(60)])
        return sum(game.outcome > 0 for game in games) / len(games)

    before = success()
    config = OnlineDPOConfig(
        updates=14, tasks=12, histories=100, samples=4, minibatches=4, beta=0.1, learning_rate=5e-3, optimizer="muon",
        chosen_from="commands", seed=seed,
    )  # fmt: skip
    OnlineDPOTrainer(Policy(player), scorer, config, Rollouts(envs, TOY_TASKS)).run()
    return before, success()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_exact_scores_it_learns_to_solve_the_toy_tasks(toy_model_folder, seed):
    before, after = toy_success(seed, toy_model_folder, ToyOracle())
    assert before < 0.5
    assert after >= 0.95


def test_with_random_scores_it_does_not(toy_model_folder):
    _, after = toy_success(0, toy_model_folder, RandomScorer())
    assert after < 0.5


# --- settings ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 1}, "samples must be at least 2, got 1"),
        ({"histories": 0}, "histories must be at least 1, got 0"),
        ({"beta": 0.0}, "beta must be above 0, got 0"),
        ({"margin": -0.1}, "margin must be at least 0, got -0.1"),
        ({"missing_end_penalty": float("-inf")}, "missing_end_penalty must be finite"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        OnlineDPOConfig(**change)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="sigmoid"):
        OnlineDPOConfig(kind="sigmoyd")
    with pytest.raises(UnknownNameError, match="commands"):
        OnlineDPOConfig(chosen_from="command")


def test_defaults_are_those_of_the_paper():
    config = OnlineDPOConfig()
    assert (config.beta, config.learning_rate, config.samples, config.kind) == (0.03, 8e-7, 2, "sigmoid")
