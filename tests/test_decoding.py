import numpy as np
import pytest
import torch

from agentgym_prm.decoding import Budget, Continuation, beam_search, best_of_n, self_consistency
from agentgym_prm.generation import LocalGenerator
from agentgym_prm.rewards.step_quality import FunctionStepScorer, aggregated
from tests.chat_models import chat_model, chat_tokenizer


class Tree:
    """Writes what a table says may follow a text, the i-th of it as the i-th continuation; ``$`` ends a text."""

    def __init__(self, table):
        self.table, self.calls = table, []

    def continuations(self, prompts, n, *, stop=()):
        self.calls.append((tuple(prompts), n))
        return [[self.written(prompt, number, stop) for number in range(n)] for prompt in prompts]

    def written(self, prompt, number, stop):
        text, tokens = "", 0
        while True:
            following = self.table.get(prompt + text, ("$",))
            step = following[number % len(following)]
            tokens += 1
            if step == "$":
                return Continuation(text, -1.0 * tokens, tokens, "end")
            text += step
            if any(word in text for word in stop):
                return Continuation(text, -1.0 * tokens, tokens, "stop")


# Digits are steps, a text is worth what its digits say: the greedy start 1 ends badly, 2 ends well.
TABLE = {"?": ("1\n", "2\n", "3\n"), "?1\n": ("0\n", "9\n"), "?2\n": ("7\n", "8\n"), "?3\n": ("5\n",)}
VALUES = {"1": 0.5, "2": 0.6, "3": 0.4, "1,0": 0.0, "1,9": 0.1, "2,7": 0.7, "2,8": 0.9, "3,5": 0.2}


def exact(attempts):
    return np.array([VALUES[",".join(attempt.steps)] for attempt in attempts])


def refuse(attempts):
    raise AssertionError("not to be asked")


def test_the_best_partial_solutions_go_on():
    tree = Tree(TABLE)
    found = beam_search(tree, "?", exact, beam_width=2, beam_factor=2)
    # 1, 2, 3 and 1 again are drawn, 2 and 1 kept; then 2,7 2,8 1,0 1,9, of which the first two are kept and end.
    assert tree.calls == [(("?",), 4), (("?2\n", "?1\n"), 2), (("?2\n8\n", "?2\n7\n"), 2)]
    assert [(each.text, each.steps, each.score, each.finished) for each in found.candidates] == [
        ("2\n8\n", ("2", "8"), 0.9, True),
        ("2\n7\n", ("2", "7"), 0.7, True),
    ]
    # Judged: three distinct, four, and at last two; the ends had room for both.
    assert found.budget == Budget(calls=3, samples=12, tokens=12, judged=9)
    assert found.budget.forward_passes == 21
    assert found.best.logprob == -3.0


def test_width_and_factor_one_write_what_the_generator_writes_and_ask_nobody_on_the_way():
    found = beam_search(Tree(TABLE), "?", refuse, beam_width=1, beam_factor=1, final_judge=exact)
    whole = Tree(TABLE).continuations(["?"], 1)[0][0]
    assert (found.best.text, found.best.logprob) == (whole.text, whole.logprob) == ("1\n0\n", -3.0)
    assert found.budget == Budget(calls=3, samples=3, tokens=3, judged=1)


def test_a_beam_finds_what_greedy_writing_and_best_of_one_miss():
    greedy = beam_search(Tree(TABLE), "?", exact, beam_width=1, beam_factor=1).best
    narrow = beam_search(Tree(TABLE), "?", exact, beam_width=1, beam_factor=2).best
    assert (greedy.score, narrow.score) == (0.0, 0.9)


def test_the_final_judge_ranks_what_is_finished():
    worst = beam_search(Tree(TABLE), "?", exact, beam_width=2, beam_factor=2, final_judge=lambda a: -exact(a)).best
    assert (worst.text, worst.score) == ("2\n7\n", -0.7)


def test_of_equal_scores_the_first_drawn_goes_on():
    table = {"?": ("b\n", "a\n", "b\n"), "?b\n": ("x\n",), "?a\n": ("x\n",)}
    found = beam_search(Tree(table), "?", lambda attempts: np.zeros(len(attempts)), beam_width=1, beam_factor=3)
    assert found.best.text == "b\nx\n"
    # Two distinct of three at first, then one and one, which have room, then the final one.
    assert found.budget.judged == 2 + 1


def test_a_stop_word_finishes_a_text_with_its_step():
    table = {"?": ("think\n",), "?think\n": ("so \\boxed{4} it is\n",), "?think\nso \\boxed{4} it is\n": ("more\n",)}
    judge = FunctionStepScorer(lambda attempt, step: 0.5, "half")
    for found in (
        beam_search(Tree(table), "?", aggregated(judge, "mean"), beam_width=1, beam_factor=1, stop=["\\boxed"]),
        best_of_n(Tree(table), "?", aggregated(judge, "mean"), 1, stop=["\\boxed"]),
    ):
        assert found.best.text == "think\nso \\boxed{4} it is\n"
        assert found.best.finished


def test_what_is_not_finished_in_time_ranks_behind_what_is():
    table = {"?": ("a\n", "z\n"), "?a\n": ("b\n",), "?a\nb\n": ("c\n",)}
    values = {"z": 0.1}
    found = beam_search(
        Tree(table), "?", lambda attempts: np.array([values.get(a.steps[-1], 0.9) for a in attempts]),
        beam_width=2, beam_factor=1, max_steps=2,
    )  # fmt: skip
    assert [(each.text, each.finished, each.score) for each in found.candidates] == [
        ("z\n", True, 0.1),
        ("a\nb\n", False, 0.9),
    ]


def test_a_step_that_was_cut_off_is_not_continued():
    class Endless:
        def continuations(self, prompts, n, *, stop=()):
            return [[Continuation(f"{len(prompt)} and", -1.0, 5, "length")] * n for prompt in prompts]

    found = beam_search(Endless(), "?", lambda attempts: np.ones(len(attempts)))
    assert [(each.text, each.finished) for each in found.candidates] == [("1 and", False)]
    assert found.budget.calls == 1


def test_judges_are_shown_the_problem_and_the_steps_without_separators():
    asked = []

    def judge(attempts):
        asked.extend((attempt.input, attempt.steps) for attempt in attempts)
        return np.zeros(len(attempts))

    table = {"Solve: ?": ("a\n\n", "b\n\n"), "Solve: ?a\n\n": ("c",)}
    beam_search(Tree(table), "Solve: ?", judge, beam_width=1, beam_factor=2, separator="\n\n", problem="?")
    assert asked == [("?", ("a",)), ("?", ("b",)), ("?", ("a", "c"))]


def test_a_text_without_a_step_comes_last_and_separators_are_no_steps():
    table = {"?": ("\n", "a\n\n"), "?\n": ("$",)}
    for found in (
        beam_search(Tree(table), "?", lambda attempts: np.full(len(attempts), -9.0), beam_width=2, beam_factor=1),
        best_of_n(Tree(table), "?", lambda attempts: np.full(len(attempts), -9.0), 2),
    ):
        assert [(each.text, each.steps, each.score) for each in found.candidates] == [
            ("a\n\n", ("a",), -9.0),
            ("\n", (), -np.inf),
        ]


def test_best_of_n_takes_the_best_whole_solution():
    tree = Tree(TABLE)
    found = best_of_n(tree, "?", exact, 3)
    # 1,0 and 2,8 (its second way) and 3,5, three tokens each.
    assert [(each.text, each.score) for each in found.candidates] == [("2\n8\n", 0.9), ("3\n5\n", 0.2), ("1\n0\n", 0.0)]
    assert found.budget == Budget(calls=1, samples=3, tokens=9, judged=3)


def test_the_answer_of_most_solutions_wins_and_of_equally_many_the_first():
    table = {"?": ("so 4", "no idea", "so 5", "so 5", "so 4")}

    def extract(text):
        return text.removeprefix("so ") if text.startswith("so ") else None

    vote = self_consistency(Tree(table), "?", extract, 5)
    assert (vote.answer, vote.votes) == ("4", (("4", 2), ("5", 2)))
    assert self_consistency(Tree(table), "?", extract, 4).answer == "5"
    assert self_consistency(Tree({"?": ("?",)}), "?", extract, 2).answer is None


def test_wrong_numbers_and_scores_are_refused():
    with pytest.raises(ValueError, match="beam_factor must be at least 1, got 0"):
        beam_search(Tree(TABLE), "?", exact, beam_factor=0)
    with pytest.raises(ValueError, match="separator must not be empty"):
        beam_search(Tree(TABLE), "?", exact, separator="")
    with pytest.raises(ValueError, match="one finite score for each of 3 attempts, got shape"):
        best_of_n(Tree(TABLE), "?", lambda attempts: np.full(len(attempts), np.nan), 3)


# --- a model on this machine ---

PROMPTS = ["go to door", "it is a dark room . go", "look"]


def generator(**settings):
    return LocalGenerator(chat_model(), chat_tokenizer(), **{"max_new_tokens": 12, **settings})


def slow_greedy(prompt, count):
    """The most likely next token, one whole forward pass each; texts of the tokens and the sum of log-probabilities."""
    tokenizer, model, total = chat_tokenizer(), chat_model(), 0.0
    ids = tokenizer.encode(prompt)
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + count and ids[-1] != tokenizer.eos_token_id:
            logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0, -1].float(), -1)
            ids.append(int(logprobs.argmax()))
            total += float(logprobs[ids[-1]])
    pieces = [tokenizer.decode([each], skip_special_tokens=True) for each in ids[start:]]
    return pieces, total, ids[-1] == tokenizer.eos_token_id


def test_a_local_model_without_temperature_writes_the_most_likely_tokens():
    for prompt, (first, second) in zip(PROMPTS, generator(temperature=0).continuations(PROMPTS, 2), strict=True):
        pieces, total, ended = slow_greedy(prompt, 12)
        assert first == second
        assert first.tokens == len(pieces)
        assert first.text == "".join(pieces)
        assert first.logprob == pytest.approx(total, abs=1e-4)
        assert first.stop_reason == ("end" if ended else "length")


def test_samples_depend_on_text_seed_and_number_but_not_on_the_batch():
    together = generator().continuations(PROMPTS, 3)
    alone = [generator().continuations([prompt], 3)[0] for prompt in PROMPTS]
    narrow = generator(batch_tokens=1).continuations(PROMPTS, 3)
    for a, b, c in zip(together, alone, narrow, strict=True):
        assert [each.text for each in a] == [each.text for each in b] == [each.text for each in c]
    assert len({each.text for each in together[0]}) == 3
    assert generator(seed=1).continuations(PROMPTS, 3)[0][0].text != together[0][0].text


def test_a_beam_of_one_greedy_model_writes_its_greedy_text():
    pieces, *_ = slow_greedy(PROMPTS[0], 12)
    separator = pieces[2]
    steps = "".join(pieces).count(separator)
    found = beam_search(
        generator(temperature=0), PROMPTS[0], lambda attempts: np.zeros(len(attempts)),
        separator=separator, beam_width=1, beam_factor=1, max_steps=steps,
    ).best  # fmt: skip
    written = "".join(pieces)
    assert found.text == written[: written.rfind(separator) + len(separator)]
    assert len(found.text.split(separator)) - 1 == steps


def test_what_was_written_is_continued_from_its_own_tokens():
    """Also where the tokenizer would make others of the text: here it is not asked again."""
    local = generator(temperature=0)
    first = local.continuations([PROMPTS[0]], 1)[0][0]
    local.tokenizer.encode = None
    second = local.continuations([PROMPTS[0] + first.text], 1)[0][0]
    pieces, *_ = slow_greedy(PROMPTS[0], 24)
    assert first.text + second.text == "".join(pieces)


def test_settings_of_a_local_generator_are_checked():
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        generator(temperature=-1)
    with pytest.raises(ValueError, match="max_new_tokens and batch_tokens must be at least 1: 0"):
        generator(max_new_tokens=0)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        generator().continuations(PROMPTS, 0)
