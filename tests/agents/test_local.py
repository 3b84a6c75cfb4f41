import copy
import math
from dataclasses import replace

import pytest
import torch

from agentgym_prm.agents import local
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.errors import UnknownNameError, UsageError
from agentgym_prm.rollout import collect
from agentgym_prm.testing import ScriptedEnv, check_agent
from agentgym_prm.transcript import Chat
from agentgym_prm.types import PARSE_ERROR, History, Step
from tests.chat_models import FORGETFUL, chat_model, chat_tokenizer

COMMANDS = ("go to door", "go to lamp", "inventory", "look", "open door", "take key from room")
HISTORIES = [
    History("open door", "dark room", COMMANDS, episode=0, seed=4),
    History("take key", "you see a key , a lamp , a door and a dark room . light", COMMANDS[1:], episode=1, seed=5),
    History("look", "door", ("look",), episode=2, seed=6),
    History("look", "it is dark : you see a lamp", (*COMMANDS, "help"), episode=3, seed=7),
]  # fmt: skip
TOLERANCE = 1e-4  # float32; sums in another order differ by about 1e-6


def agent(template=None, attention="sdpa", prompt="bare", **kwargs):
    tokenizer = chat_tokenizer() if template is None else chat_tokenizer(template)
    return LocalAgent(chat_model(attention=attention), tokenizer, prompt, **{"max_new_tokens": 6, **kwargs})


def forward_logprobs(model, token_ids, temperature=1.0):
    """Log-probability of each token but the first, from one plain forward pass without padding or cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([token_ids])).logits[0].float() / temperature
    logprobs = torch.log_softmax(logits[:-1], -1)
    return logprobs.gather(1, torch.tensor(token_ids[1:])[:, None])[:, 0].tolist()


def assert_close(actions, others):
    assert [a.token_ids for a in actions] == [b.token_ids for b in others]
    for one, other in zip(actions, others, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)


@pytest.mark.parametrize("mode", ["generate", "choose"])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_contract_of_agents_holds(mode, temperature):
    check_agent(agent(mode=mode, temperature=temperature), HISTORIES)


@pytest.mark.parametrize("mode", ["generate", "choose"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_batched_equals_one_by_one(mode, temperature, batch_tokens):
    batched = agent(mode=mode, temperature=temperature, batch_tokens=batch_tokens).sample(HISTORIES, n=3)
    for history, actions in zip(HISTORIES, batched, strict=True):
        (alone,) = agent(mode=mode, temperature=temperature).sample([history], n=3)
        assert_close(actions, alone)
        assert [a.command for a in actions] == [a.command for a in alone]


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_recorded_logprobs_are_those_of_a_fresh_forward_pass(temperature):
    player = agent(temperature=temperature)
    for history, (action,) in zip(HISTORIES, player.sample(HISTORIES), strict=True):
        prompt = player.encoder.history(history).token_ids
        expected = forward_logprobs(player.model, [*prompt, *action.token_ids], temperature or 1.0)
        assert action.logprobs == pytest.approx(expected[len(prompt) - 1 :], abs=TOLERANCE)


def test_padding_really_changes_results_if_it_is_attended_to():
    """The check above can fail: the same prompt with unmasked padding in front gives other log-probabilities."""
    player = agent()
    prompt = player.encoder.history(HISTORIES[0]).token_ids
    plain = forward_logprobs(player.model, prompt)[-1]
    assert abs(forward_logprobs(player.model, (3, 3, 3, *prompt))[-1] - plain) > 100 * TOLERANCE


@pytest.mark.parametrize("scoring", ["packed", "cached"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_chosen_logprobs_equal_full_scoring(scoring, attention):
    player = agent(mode="choose", scoring=scoring, attention=attention)
    for history, scores, (action,) in zip(
        HISTORIES, player.score_commands(HISTORIES), player.sample(HISTORIES), strict=True
    ):
        prompt = player.encoder.history(history).token_ids
        full = {}
        for command in history.admissible_commands:
            reply = player.encoder.chat.reply_ids(command)
            full[command] = forward_logprobs(player.model, [*prompt, *reply])[len(prompt) - 1 :]
        assert scores == pytest.approx([sum(full[c]) for c in history.admissible_commands], abs=TOLERANCE)
        assert action.token_ids == player.encoder.chat.reply_ids(action.command)
        assert action.logprobs == pytest.approx(full[action.command], abs=TOLERANCE)
        total = math.log(sum(math.exp(sum(each)) for each in full.values()))
        assert action.scores["choice_logprob"] == pytest.approx(sum(full[action.command]) - total, abs=TOLERANCE)


def test_a_command_that_begins_another_is_scored_with_its_end():
    history = replace(HISTORIES[0], admissible_commands=("go to", "go to door", "go to door open", "go"))
    player = agent(mode="choose")
    (scores,) = player.score_commands([history])
    prompt = player.encoder.history(history).token_ids
    for command, score in zip(history.admissible_commands, scores, strict=True):
        reply = player.encoder.chat.reply_ids(command)
        full = forward_logprobs(player.model, [*prompt, *reply])[len(prompt) - 1 :]
        assert score == pytest.approx(sum(full), abs=TOLERANCE)


def test_choices_follow_the_softmax_of_the_scores():
    history = HISTORIES[0]
    for temperature in (1.0, 2.0):
        player = agent(mode="choose", temperature=temperature)
        (scores,) = player.score_commands([history])
        weights = [math.exp(score / temperature) for score in scores]
        (actions,) = player.sample([history], n=1000)
        for command, weight in zip(history.admissible_commands, weights, strict=True):
            share = weight / sum(weights)
            drawn = sum(action.command == command for action in actions) / 1000
            assert drawn == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 1000) + 1e-9)


def test_sampled_tokens_follow_the_models_distribution():
    player = agent(temperature=1.0, max_new_tokens=1)
    prompt = player.encoder.history(HISTORIES[0]).token_ids
    with torch.no_grad():
        expected = torch.softmax(player.model(input_ids=torch.tensor([prompt])).logits[0, -1].float(), -1)
    (actions,) = player.sample([HISTORIES[0]], n=1000)
    drawn = torch.bincount(torch.tensor([a.token_ids[0] for a in actions]), minlength=len(expected)) / 1000
    # Four standard errors for each of 51 tokens.
    assert ((drawn - expected).abs() <= 4 * (expected * (1 - expected) / 1000).sqrt() + 1e-3).all()


@pytest.mark.parametrize("mode", ["generate", "choose"])
def test_samples_differ_with_temperature_and_agree_without(mode):
    (warm,) = agent(mode=mode, temperature=1.0).sample([HISTORIES[0]], n=16)
    assert len({action.token_ids for action in warm}) > 1
    (cold,) = agent(mode=mode, temperature=0.0).sample([HISTORIES[0]], n=16)
    assert len({action.token_ids for action in cold}) == 1
    (other,) = agent(mode=mode, temperature=1.0, seed=1).sample([HISTORIES[0]], n=16)
    assert [a.token_ids for a in other] != [a.token_ids for a in warm]


def test_greedy_generation_takes_the_most_likely_token_each_time():
    player = agent(temperature=0)
    (action,) = player.act(HISTORIES[:1])
    ids = list(player.encoder.history(HISTORIES[0]).token_ids)
    for token in action.token_ids:
        with torch.no_grad():
            assert int(player.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_replies_stop_at_the_end_token_a_stop_text_or_the_limit():
    actions = [
        a for some in agent(temperature=1.0, stop=("\n",), max_new_tokens=20).sample(HISTORIES, n=40) for a in some
    ]
    end = chat_tokenizer().eos_token_id
    by_reason = {reason: [a for a in actions if a.stop_reason == reason] for reason in ("end", "stop", "length")}
    assert sum(map(len, by_reason.values())) == len(actions)
    assert by_reason["end"]
    assert by_reason["stop"]
    assert all(a.token_ids[-1] == end and end not in a.token_ids[:-1] for a in by_reason["end"])
    assert all(a.reply.endswith("\n") and "\n" not in a.reply[:-1] for a in by_reason["stop"])
    assert all("<|im_end|>" not in a.reply for a in actions)
    limited = [a for some in agent(temperature=1.0, max_new_tokens=2).sample(HISTORIES, n=40) for a in some]
    assert max(len(a.token_ids) for a in limited) == 2
    assert all(len(a.token_ids) == 2 for a in limited if a.stop_reason == "length")
    assert any(a.stop_reason == "length" for a in limited)


def test_a_reply_in_another_form_is_data():
    (actions,) = agent(prompt="reason_action", temperature=1.0).sample(HISTORIES[:1], n=8)
    for action in actions:
        assert action.command == ""
        assert action.scores[PARSE_ERROR] == 1.0
        assert action.reply


@pytest.mark.parametrize("mode", ["generate", "choose"])
def test_ids_sent_to_the_sampler_are_those_that_are_trained_on(monkeypatch, mode):
    player = agent(mode=mode, temperature=1.0)
    sent = {}
    original = player.encoder.history

    def spy(history):
        encoded = original(history)
        sent[history.episode, len(history.steps)] = encoded.token_ids
        return encoded

    monkeypatch.setattr(player.encoder, "history", spy)
    envs = TextVectorEnv(lambda: ScriptedEnv([["look", "open door", "take key"]]), 4, max_episode_steps=5)
    trajectories = collect(player, envs, [0] * 8)
    trainer = Encoder(Prompt.load("bare"), Chat(player.encoder.chat.tokenizer))
    for trajectory in trajectories:
        transcripts = trainer.trajectory(trajectory)
        assert len(transcripts) == 1
        for transcript in transcripts:
            trained = forward_logprobs(player.model, transcript.token_ids)
            for turn, step in enumerate(trajectory.steps):
                mine = [i for i, t in enumerate(transcript.turn_index) if t == turn and transcript.action_mask[i]]
                assert transcript.token_ids[: mine[0]] == sent[trajectory.episode, turn]
                assert tuple(transcript.token_ids[i] for i in mine) == step.action.token_ids
                assert [transcript.logprobs[i] for i in mine] == list(step.action.logprobs)
                gap = max(abs(trained[i - 1] - transcript.logprobs[i]) for i in mine)
                assert gap < TOLERANCE


def test_rewritten_history_is_counted_in_usage():
    player = agent(FORGETFUL)
    chat = player.encoder.chat
    thought = "<think> dark </think> look"
    history = HISTORIES[0]
    action = replace(player.act(history), reply=thought, token_ids=chat.reply_ids(thought), logprobs=())
    later = replace(history, steps=(Step("door", COMMANDS, action),))
    assert player.act(history).usage["transcripts"] == 1
    assert player.act(later).usage["transcripts"] == 2
    assert agent().act(replace(later, steps=(Step("door", COMMANDS, action),))).usage["transcripts"] == 1


def test_long_prompts_lose_their_oldest_turns_whole_and_say_so():
    free = agent(mode="choose")
    action = free.act(HISTORIES[0])
    history = replace(HISTORIES[0], steps=tuple(Step("dark room", COMMANDS, action) for _ in range(5)))
    one_turn = len(free.encoder.history(HISTORIES[0]).token_ids)
    assert free.act(history).usage["dropped_turns"] == 0
    bounded = agent(mode="choose", max_prompt_tokens=5 * one_turn)
    usage = bounded.act(history).usage
    assert usage["prompt_tokens"] <= 5 * one_turn
    assert 1 <= usage["dropped_turns"] <= 5
    with pytest.raises(ValueError, match="alone takes"):
        agent(mode="choose", max_prompt_tokens=5).act(history)


def test_the_model_is_left_in_the_mode_it_was_in():
    player = agent()
    player.model.train()
    try:
        player.act(HISTORIES)
        assert player.model.training
    finally:
        player.model.eval()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="command alone"):
        agent(mode="choose", prompt="reason_action")
    with pytest.raises(UnknownNameError, match="did you mean 'choose'"):
        agent(mode="chose")
    with pytest.raises(ValueError, match="temperature"):
        agent(temperature=-1.0)
    with pytest.raises(ValueError, match="admissible"):
        agent(mode="choose").act(replace(HISTORIES[0], admissible_commands=()))
    with pytest.raises(UsageError, match=r"search\[<keywords>\].*searches='suggested'"):
        agent(mode="choose").act(replace(HISTORIES[0], admissible_commands=("search[<keywords>]",)))


def chooser(**kwargs):
    """With a model of its own, and the shapes of what goes through it."""
    player = LocalAgent(copy.deepcopy(chat_model()), chat_tokenizer(), "bare", mode="choose", **kwargs)
    shapes = []
    player.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return player, shapes


@pytest.mark.parametrize("scoring", ["packed", "cached"])
def test_histories_that_read_alike_are_scored_once_and_drawn_from_each(scoring):
    group = [replace(HISTORIES[0], episode=episode) for episode in range(8)]
    player, shapes = chooser(scoring=scoring)
    together = player.act(group)
    assert shapes[0][0] == 1
    alone = [chooser(scoring=scoring)[0].act(history) for history in group]
    assert together == alone
    assert len({action.command for action in together}) > 1


def test_equal_prompts_with_other_commands_are_scored_apart():
    player, _ = chooser()
    other = replace(HISTORIES[0], admissible_commands=COMMANDS[::-1])
    (scores, reversed_scores) = player.score_commands([HISTORIES[0], other])
    assert scores == pytest.approx(reversed_scores[::-1], abs=TOLERANCE)
    assert scores != pytest.approx(reversed_scores, abs=100 * TOLERANCE)


def test_what_was_scored_with_the_same_weights_is_not_scored_again():
    player, shapes = chooser()
    first = player.act(HISTORIES)
    count = len(shapes)
    assert player.act(HISTORIES) == first
    assert len(shapes) == count
    player.act([*HISTORIES, replace(HISTORIES[0], observation="light")])
    assert [rows for rows, _ in shapes[count:]] == [1]


def step_of(optimizer, **settings):
    def change(player):
        player.score_commands(HISTORIES)
        ids = torch.tensor([player.encoder.history(HISTORIES[0]).token_ids])
        player.model(input_ids=ids, labels=ids).loss.backward()
        optimizer(player.model.parameters(), lr=0.05, **settings).step()

    return change


def load_weights(player):
    player.model.load_state_dict({name: 0.9 * value for name, value in player.model.state_dict().items()})


def in_place(player):
    player.model.model.layers[0].mlp.up_proj.weight.data.mul_(0.5)


def other_storage(player):
    weight = player.model.model.layers[0].mlp.up_proj.weight
    weight.data = 0.5 * weight.data


def other_model(player):
    player.model = copy.deepcopy(chat_model(1))


@pytest.mark.parametrize(
    "change",
    [
        step_of(torch.optim.SGD),
        step_of(torch.optim.AdamW, foreach=False),
        step_of(torch.optim.AdamW, foreach=True),
        step_of(torch.optim.AdamW, fused=True),
        load_weights,
        in_place,
        other_storage,
        other_model,
    ],
    ids=["sgd", "adamw", "foreach", "fused", "load_state_dict", "in_place", "storage", "model"],
)
def test_no_score_outlives_the_weights_that_gave_it(change):
    player, _ = chooser()
    before = player.score_commands(HISTORIES)
    change(player)
    after = player.score_commands(HISTORIES)
    fresh = LocalAgent(player.model, chat_tokenizer(), "bare", mode="choose").score_commands(HISTORIES)
    assert after == fresh
    assert max(abs(a - b) for a, b in zip(before[0], after[0], strict=True)) > 100 * TOLERANCE


def test_adapters_that_are_switched_off_are_noticed():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    player, _ = chooser()
    plain = player.score_commands(HISTORIES)[0]
    player.model = peft.get_peft_model(player.model, config)
    adapted = player.score_commands(HISTORIES)[0]
    with player.model.disable_adapter():
        assert player.score_commands(HISTORIES)[0] == pytest.approx(plain, abs=TOLERANCE)
    assert adapted != pytest.approx(plain, abs=100 * TOLERANCE)


def test_only_as_much_is_copied_and_kept_as_is_meant_to_be(monkeypatch):
    player, shapes = chooser()
    player.act(HISTORIES)
    monkeypatch.setattr(local, "_KEPT", 4)
    player.act(HISTORIES)
    assert len(shapes) == 2  # four are kept: full, so they are computed anew
    monkeypatch.setattr(local, "_KEPT", 5)
    player.act(HISTORIES)
    assert len(shapes) == 2
    monkeypatch.setattr(local, "_COPIED", 1)
    player.act(HISTORIES)
    player.act(HISTORIES)
    assert len(shapes) == 4


def test_forward_passes_on_a_cpu_stay_small():
    player, shapes = chooser()
    player.act([replace(HISTORIES[3], observation="lamp " * length) for length in range(2, 62)])
    places = [rows * width for rows, width in shapes]
    assert sum(places) > 2048
    assert max(places) <= 1024
