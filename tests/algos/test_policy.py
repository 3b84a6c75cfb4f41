import math
from dataclasses import replace

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.algos import policy as module
from agentgym_prm.algos.policy import Policy
from agentgym_prm.models import output_logits
from agentgym_prm.rewards.core import RandomScorer
from agentgym_prm.types import Action, Step, Trajectory
from tests.algos.episodes import SETUPS, agent_of, fresh_model, play
from tests.chat_models import chat_tokenizer

ROUNDING = 1e-5  # float32 sums in another order
DOUBLE = 1e-6  # sums in float64, but the norms of Llama are computed in float32 all the same
TOKENIZER = chat_tokenizer()


def ids(text):
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


def sampled(command, text, logprobs, **scores):
    return Action(command, text.removesuffix("<|im_end|>"), "", ids(text), tuple(logprobs), scores=scores)


def flat(policy, rows):
    readings = policy.read_all(rows)
    return [
        torch.cat(parts).tolist() for parts in ([r.logprobs_N for r in readings], [r.entropies_N for r in readings])
    ]


# --- rows ---


def test_a_conversation_is_one_row_with_the_action_tokens_of_all_its_turns():
    steps = (
        Step("dark", (), sampled("look", "look<|im_end|>", [-0.1, -0.2])),
        Step("key", (), sampled("take key", "take key", [-0.3, -0.4, -0.5])),  # cut: no end token
    )
    (row,) = Policy(agent_of("conversation")).rows([Trajectory("t", 0, steps, "")])
    # fmt: off
    assert TOKENIZER.convert_ids_to_tokens(row.token_ids) == [
        "<|im_start|>", "user", "\n", "dark", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n",  # 0 - 8
        "look", "<|im_end|>",  # 9, 10
        "\n", "<|im_start|>", "user", "\n", "key", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n",  # 11 - 20
        "take", " ", "key",  # 21 - 23
    ]
    # fmt: on
    assert row.places == (9, 10, 21, 22, 23)
    assert row.turns == (0, 0, 1, 1, 1)
    assert row.sampled == (-0.1, -0.2, -0.3, -0.4, -0.5)
    assert (row.episode, row.replies) == (0, ())


def test_a_choice_is_a_row_of_its_prompt_with_all_commands_as_replies():
    choices = ("look", "open door", "take key")
    steps = (
        Step("dark", choices, sampled("open door", "open door<|im_end|>", [-9, -9, -9, -9], choice_logprob=-0.7)),
        Step("key", choices[:1], sampled("look", "look<|im_end|>", [-9, -9], choice_logprob=0.0)),
    )
    first, second = Policy(agent_of("choose")).rows([Trajectory("t", 0, steps, "")])
    assert TOKENIZER.decode(first.token_ids) == (
        "<|im_start|>user\nobservation : dark 0<|im_end|>\n<|im_start|>assistant\n"
    )
    assert [TOKENIZER.decode(reply) for reply in first.replies] == [f"{choice}<|im_end|>" for choice in choices]
    assert (first.chosen, first.turns, first.sampled, first.places) == (1, (0,), (-0.7,), ())
    assert TOKENIZER.decode(second.token_ids) == (
        "<|im_start|>user\nobservation : key 1<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (second.chosen, second.turns, second.sampled, len(second.replies)) == (0, (1,), (0.0,), 1)


def test_where_a_template_rewrites_history_each_reply_is_an_action_in_a_row_of_its_own():
    steps = (
        Step("dark", (), sampled("look", "<think> a </think> look<|im_end|>", [-1, -1, -1, -1, -1, -1, -1, -1])),
        Step("key", (), sampled("take", "<think> b </think> take<|im_end|>", [-2, -2, -2, -2, -2, -2, -2, -2])),
    )
    first, second = Policy(agent_of("rewritten", prompt="bare")).rows([Trajectory("t", 0, steps, "")])
    think = ["<think>", " ", None, " ", "</think>", " ", None, "<|im_end|>"]
    # fmt: off
    assert TOKENIZER.convert_ids_to_tokens(first.token_ids) == [
        "<|im_start|>", "user", "\n", "dark", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n",  # 0 - 8
        *[*think[:2], "a", *think[3:6], "look", *think[7:]],  # 9 - 16
    ]
    assert TOKENIZER.convert_ids_to_tokens(second.token_ids) == [
        "<|im_start|>", "user", "\n", "dark", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n",  # 0 - 8
        " ", "look", "<|im_end|>", "\n",  # 9 - 12: without its thought, as context
        "<|im_start|>", "user", "\n", "key", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n",  # 13 - 21
        *[*think[:2], "b", *think[3:6], "take", *think[7:]],  # 22 - 29
    ]
    # fmt: on
    assert (first.places, first.turns) == (tuple(range(9, 17)), (0,) * 8)
    assert (second.places, second.turns) == (tuple(range(22, 30)), (1,) * 8)
    assert (first.sampled, second.sampled) == ((-1,) * 8, (-2,) * 8)


@pytest.mark.parametrize("setup", SETUPS)
def test_every_sampled_action_token_is_in_exactly_one_row(setup):
    agent = agent_of(setup)
    played = play(agent)
    rows = Policy(agent).rows(played)
    found = [(row.episode, turn, logprob) for row in rows for turn, logprob in zip(row.turns, row.sampled, strict=True)]
    if setup.startswith("choose"):
        expected = [
            (number, turn, step.action.scores["choice_logprob"])
            for number, episode in enumerate(played)
            for turn, step in enumerate(episode.steps)
        ]
        assert [row.replies[row.chosen] for row in rows] == [s.action.token_ids for e in played for s in e.steps]
    else:
        expected = [
            (number, turn, logprob)
            for number, episode in enumerate(played)
            for turn, step in enumerate(episode.steps)
            for logprob in step.action.logprobs
        ]
        tokens = [row.token_ids[place] for row in rows for place in row.places]
        assert tokens == [token for e in played for s in e.steps for token in s.action.token_ids]
    assert found == expected
    assert max(len(episode.steps) for episode in played) > 1


def test_what_cannot_be_trained_on_is_refused():
    step = Step("dark", ("look",), Action("look"))
    with pytest.raises(ValueError, match="turn 0 of trajectory 0 has no token ids"):
        Policy(agent_of("conversation")).rows([Trajectory("t", 0, (step,), "")])
    with pytest.raises(ValueError, match="not sampled in the policy's mode 'choose'"):
        Policy(agent_of("choose")).rows(play(agent_of("conversation"), [0]))
    with pytest.raises(ValueError, match=r"sampled at temperature 0\.7, the policy's is 1\.0"):
        Policy(agent_of("choose")).rows(play(agent_of("choose", temperature=0.7), [0]))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        Policy(agent_of("choose", temperature=0.0))
    other = Step("dark", ("look",), sampled("take", "take<|im_end|>", [-1, -1], choice_logprob=-1.0))
    with pytest.raises(ValueError, match="'take' is not among the commands"):
        Policy(agent_of("choose")).rows([Trajectory("t", 0, (other,), "")])


def test_replies_whose_log_probability_is_not_the_one_told_are_refused():
    agent, chooser = agent_of("conversation"), agent_of("choose")
    for each in (agent, chooser):
        best = play(BestOfN(each, RandomScorer(), 2), [0])
        with pytest.raises(ValueError, match="turn 0 of trajectory 0 was chosen among 2 candidates"):
            Policy(each).rows(best)
        Policy(each).rows(play(BestOfN(each, RandomScorer(), 1), [0]))  # nothing was chosen


@pytest.mark.parametrize("setup", ["conversation", "choose"])
def test_replies_in_the_tokens_of_another_tokenizer_are_refused(setup):
    agent = agent_of(setup)
    (episode,) = play(agent, [0])
    action = episode.steps[0].action
    foreign = replace(action, token_ids=(ids("go")[0], *action.token_ids[1:]))
    assert foreign.token_ids != action.token_ids
    steps = (replace(episode.steps[0], action=foreign), *episode.steps[1:])
    with pytest.raises(ValueError, match="another tokenizer"):
        Policy(agent).rows([replace(episode, steps=steps)])


# --- reading ---


def alone(model, prompt, reply):
    """Logits at which each token of a reply is predicted, from one forward pass without padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
    return logits[len(prompt) - 1 : -1].double()


def slow_reading(agent, played):
    """Log-probability and entropy of each action token, each reply alone, the softmax written out."""
    logprobs, entropies = [], []
    for episode in played:
        for turn, step in enumerate(episode.steps):
            history = episode.history(turn)
            prompt = agent.encoder.history(history).token_ids
            if agent.mode == "generate":
                for logits, token in zip(
                    alone(agent.model, prompt, step.action.token_ids), step.action.token_ids, strict=True
                ):
                    odds = [math.exp(value / agent.temperature) for value in logits.tolist()]
                    logprobs.append(math.log(odds[token] / sum(odds)))
                    entropies.append(-sum(each / sum(odds) * math.log(each / sum(odds)) for each in odds))
                continue
            totals = []
            for command in history.admissible_commands:
                reply = agent.encoder.chat.reply_ids(command)
                rows = torch.log_softmax(alone(agent.model, prompt, reply), -1)
                totals.append(sum(row[token].item() for row, token in zip(rows, reply, strict=True)))
            odds = [math.exp(total / agent.temperature) for total in totals]
            logprobs.append(math.log(odds[history.admissible_commands.index(step.action.command)] / sum(odds)))
            entropies.append(-sum(each / sum(odds) * math.log(each / sum(odds)) for each in odds))
    return logprobs, entropies


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_readings_are_the_samplers_and_those_of_a_slow_computation(setup, temperature):
    agent = agent_of(setup, temperature=temperature)
    played = play(agent)
    policy = Policy(agent)
    rows = policy.rows(played)
    logprobs, entropies = flat(policy, rows)
    assert logprobs == pytest.approx([each for row in rows for each in row.sampled], abs=ROUNDING)
    expected_logprobs, expected_entropies = slow_reading(agent, played)
    assert logprobs == pytest.approx(expected_logprobs, abs=ROUNDING)
    assert entropies == pytest.approx(expected_entropies, abs=ROUNDING)
    assert max(entropies) > 0.1


@pytest.mark.parametrize("setup", ["choose", "choose in a conversation"])
def test_a_model_whose_attention_takes_no_mask_of_ours_reads_the_same(setup, monkeypatch):
    agent = agent_of(setup, temperature=0.7)
    policy = Policy(agent)
    rows = policy.rows(play(agent))
    packed = flat(policy, rows)
    monkeypatch.setattr(module, "takes_any_mask", lambda model: False)
    plain = flat(policy, rows)
    assert plain[0] == pytest.approx(packed[0], abs=ROUNDING)
    assert plain[1] == pytest.approx(packed[1], abs=ROUNDING)
    # Each reply brings its prompt along: fewer rows fit into a forward pass.
    policy.batch_tokens = 200
    seen = []
    policy.net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0]["input_ids"].numel()))
    flat(policy, rows)
    most = max(len(row.replies) * (len(row.token_ids) + max(map(len, row.replies))) for row in rows)
    assert len(seen) > 1
    assert max(seen) <= max(200, most)


@pytest.mark.parametrize("setup", SETUPS)
def test_readings_and_gradients_do_not_depend_on_padding_or_packing(setup):
    agent = agent_of(setup, model=fresh_model(double=True))
    played = play(agent)
    results = []
    for rows_at_once in (1, 2, 1000):
        policy = Policy(agent, value_head=True)
        with torch.no_grad():
            policy.net.value.weight.copy_(torch.linspace(-1, 1, 32, dtype=torch.float64)[None])
        rows = policy.rows(played)
        policy.batch_tokens = rows_at_once * max(map(len, rows))
        policy.net.zero_grad()
        gathered = [torch.zeros(0)] * len(rows)
        batches = policy.batches(rows)
        for batch in batches:
            reading = policy.read([rows[index] for index in batch])
            loss = reading.logprobs_N.cos().sum() + reading.entropies_N.sin().sum() + reading.values_N.sin().sum()
            loss.backward()
            parts = torch.stack(reading, 1).detach().split([len(rows[index].turns) for index in batch])
            for index, part in zip(batch, parts, strict=True):
                gathered[index] = part
        results.append((torch.cat(gathered), torch.cat([p.grad.reshape(-1) for p in policy.parameters]), len(batches)))
    for read, gradient, _ in results[1:]:
        assert read.dtype == gradient.dtype == torch.float64
        assert torch.allclose(read, results[0][0], atol=DOUBLE, rtol=0)
        assert torch.allclose(gradient, results[0][1], atol=DOUBLE, rtol=0)
    assert results[0][2] > results[1][2] > results[2][2]
    assert results[0][1].abs().max() > 0.1


def test_rows_that_are_alike_are_computed_once_and_have_the_gradients_of_separate_ones():
    agent = agent_of("choose", model=fresh_model(double=True))
    policy = Policy(agent)
    rows = policy.rows(play(agent, [0] * 6))
    openings = [row for row in rows if row.turns == (0,)]
    assert len({row.token_ids for row in openings}) == 1
    assert len({row.chosen for row in openings}) > 1
    weights = torch.arange(1.0, len(openings) + 1, dtype=torch.float64)
    shapes = []
    policy.net.register_forward_pre_hook(lambda net, inputs: shapes.append(len(inputs[0]["input_ids"])))

    def gradient(batches):
        policy.net.zero_grad()
        for batch in batches:
            (policy.read([openings[index] for index in batch]).logprobs_N * weights[batch]).sum().backward()
        return torch.cat([parameter.grad.reshape(-1) for parameter in policy.parameters])

    together = gradient([list(range(6))])
    assert shapes == [1]
    separate = gradient([[index] for index in range(6)])
    assert torch.allclose(together, separate, atol=DOUBLE, rtol=0)
    assert separate.abs().max() > 0.1


@pytest.mark.parametrize("setup", ["conversation", "choose"])
def test_a_large_vocabulary_is_read_part_by_part_with_the_same_result(setup, monkeypatch):
    agent = agent_of(setup, model=fresh_model(double=True))
    policy = Policy(agent)
    rows = policy.rows(play(agent))

    def read():
        policy.net.zero_grad()
        reading = policy.read(rows)
        (reading.logprobs_N.sin() + reading.entropies_N.cos()).sum().backward()
        gradient = torch.cat([parameter.grad.reshape(-1) for parameter in policy.parameters])
        return reading.logprobs_N.detach(), reading.entropies_N.detach(), gradient

    whole = read()
    most = []
    original = module.output_logits
    monkeypatch.setattr(
        module, "output_logits", lambda model, hidden: most.append(len(hidden)) or original(model, hidden)
    )
    monkeypatch.setattr(module, "_LOGITS", 3 * agent.model.config.vocab_size)
    parts = read()
    assert max(most) == 3
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=DOUBLE, rtol=0)


SMALL = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "build",
    [
        lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=0.05)),
        lambda: GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=7.0)),
        lambda: CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.3)),
        fresh_model,
    ],
)
def test_logits_are_what_the_models_own_forward_pass_gives(build):
    model = build().eval()
    tokens = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        hidden = model.base_model(input_ids=tokens).last_hidden_state
        assert torch.allclose(output_logits(model, hidden), model(input_ids=tokens).logits, atol=1e-6)


def test_bfloat16_changes_rounding_only():
    agent = agent_of("choose in a conversation")
    policy = Policy(agent)
    rows = policy.rows(play(agent))
    assert len({len(row.token_ids) for row in rows}) > 1  # so that some are padded
    exact = policy.read(rows)
    policy.precision = "bfloat16"
    rounded = policy.read(rows)
    assert rounded.logprobs_N.dtype == torch.float32
    gap = (rounded.logprobs_N - exact.logprobs_N).abs().max()
    assert 0 < gap < 0.3  # sums of several log-probabilities of size 5, each with 8 bits


# --- values ---


@pytest.mark.parametrize("setup", SETUPS)
def test_values_start_at_zero_and_are_read_where_a_reply_begins(setup):
    agent = agent_of(setup)
    policy = Policy(agent, value_head=True)
    played = play(agent)
    rows = policy.rows(played)
    assert all((reading.values_N == 0).all() for reading in policy.read_all(rows))
    with torch.no_grad():
        policy.net.value.weight.normal_(generator=torch.Generator().manual_seed(0))
    read = torch.cat([reading.values_N for reading in policy.read_all(rows)]).tolist()
    turns = [(row.episode, turn) for row in rows for turn in row.turns]
    firsts = [value for place, value in enumerate(read) if place == 0 or turns[place] != turns[place - 1]]
    values = policy.values([history for episode in played for history in episode.histories()])
    assert values.tolist() == pytest.approx(firsts, abs=ROUNDING)
    assert values.std() > 0.1


def test_values_need_a_head():
    with pytest.raises(ValueError, match="value_head=True"):
        Policy(agent_of("choose")).values([])


# --- the reference ---


def scaled(policy, factor):
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.mul_(factor)


@pytest.mark.parametrize("lora", [False, True])
def test_the_reference_is_the_policy_as_it_was_when_it_was_kept(lora):
    model = fresh_model()
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    agent = agent_of("choose", model=model)
    policy = Policy(agent)
    rows = policy.rows(play(agent))
    with torch.no_grad():  # adapters that were trained before
        for parameter in policy.parameters:
            parameter.add_(0.1)
    assert not policy.has_reference
    with pytest.raises(RuntimeError, match="keep_reference"), policy.as_reference():
        pass
    policy.keep_reference()
    at_start = flat(policy, rows)
    scaled(policy, 0.5)
    now = flat(policy, rows)
    with policy.as_reference():
        assert flat(policy, rows) == at_start
    assert flat(policy, rows) == now
    assert now != at_start
