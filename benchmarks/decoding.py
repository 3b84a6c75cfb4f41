"""Claim: at the same number of forward passes, beam search with an exact scorer solves what greedy writing cannot, and
more than Best-of-N; noise in the scorer costs both, and the search more.

    python benchmarks/decoding.py [--problems 400] [--steps 6] [--choices 4]

A problem is a text of six steps, each one of four words, of which one is right given those before; a solution is right
if all its words are. The writer prefers a wrong word at the first step and the right one at all others, so what it
writes greedily is never right. The exact scorer knows the probability p that the writer goes on to a right solution and
gives log(p + 0.02); noise of a given standard deviation is added, drawn once for each partial text. The same scorer
ranks final solutions. Best-of-N spends at most what the beam search before it does; a token of one sequence is one
forward pass, and so is an attempt judged.
"""

import argparse
import math
from collections.abc import Sequence
from functools import cache, partial
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.decoding import Continuation, Decoded, beam_search, best_of_n
from agentgym_prm.draws import mix, uniform
from agentgym_prm.rewards.step_labels import StepLabels

BEAMS = ((1, 1), (1, 4), (2, 2), (4, 2), (4, 4))
NOISES = (0.0, 0.5, 1.0, 2.0)
PREFERENCE, FLOOR = 2.0, 0.02


class Writer:
    """Writes words ``0 … choices - 1``, a line each; one token a word, and one for the end.

    Args:
        problem: Number of the problem.
        steps: Words of a solution.
        choices: Words to choose from.
        greedy: Whether it writes the word that it prefers, always.
    """

    def __init__(self, problem: int, steps: int, choices: int, *, greedy: bool = False) -> None:
        self.problem, self.steps, self.choices, self.greedy = problem, steps, choices, greedy

    def right(self, words: tuple[str, ...]) -> str:
        """The one right word after these."""
        return str(mix(self.problem, self._key(words), 1) % self.choices)

    @cache  # noqa: B019  as many objects as problems
    def probabilities(self, words: tuple[str, ...]) -> NDArray[np.float64]:
        """Of the words after these: drawn, and one is preferred, which is the right one except at the first step."""
        logits = np.array([uniform(self.problem, self._key(words), 2, word) for word in range(self.choices)])
        logits[int(self.right(words)) if words else (int(self.right(())) + 1) % self.choices] += PREFERENCE
        shares: NDArray[np.float64] = np.exp(logits) / np.exp(logits).sum()
        return shares

    def value(self, words: tuple[str, ...]) -> float:
        """The probability that the writer makes a right solution of these words."""
        if any(word != self.right(words[:place]) for place, word in enumerate(words)):
            return 0.0
        return math.prod(self.right_shares()[len(words) :])

    @cache  # noqa: B019
    def right_shares(self) -> tuple[float, ...]:
        """The probability of the right word at each step of the right solution."""
        words: list[str] = []
        shares = []
        for _ in range(self.steps):
            word = self.right(tuple(words))
            shares.append(float(self.probabilities(tuple(words))[int(word)]))
            words.append(word)
        return tuple(shares)

    def continuations(self, prompts: Sequence[str], n: int, *, stop: Sequence[str] = ()) -> list[list[Continuation]]:
        return [[self._continuation(prompt, number, bool(stop)) for number in range(n)] for prompt in prompts]

    def _continuation(self, prompt: str, number: int, one_step: bool) -> Continuation:
        words = tuple(prompt.split())
        start, logprob = len(words), 0.0
        while len(words) < self.steps:
            shares = self.probabilities(words)
            draw = uniform(self.problem, crc32(prompt.encode()), number, len(words), 3)
            drawn = min(int(np.searchsorted(np.cumsum(shares), draw, "right")), self.choices - 1)
            word = int(shares.argmax()) if self.greedy else drawn
            logprob += math.log(shares[word])
            words = (*words, str(word))
            if one_step:
                break
        ended = len(words) == self.steps
        text = "".join(f"{word}\n" for word in words[start:])
        return Continuation(text, logprob, len(words) - start + ended, "end" if ended else "stop")

    def _key(self, words: tuple[str, ...]) -> int:
        return crc32(" ".join(words).encode())


def judge(writer: Writer, noise: float, attempts: Sequence[StepLabels]) -> NDArray[np.float64]:
    """Logarithms of the values, with noise: two uniform numbers make a normal one (Box and Muller)."""
    scores = []
    for attempt in attempts:
        key = mix(writer.problem, crc32(" ".join(attempt.steps).encode()), 4)
        normal = math.sqrt(-2 * math.log(1 - uniform(1, after=key))) * math.cos(2 * math.pi * uniform(2, after=key))
        scores.append(math.log(writer.value(attempt.steps) + FLOOR) + noise * normal)
    return np.array(scores)


def beam(writer: Writer, noise: float, width: int, factor: int) -> tuple[Writer, Decoded]:
    found = beam_search(
        writer, "", partial(judge, writer, noise), beam_width=width, beam_factor=factor, max_steps=writer.steps
    )
    return writer, found


def sampled(writer: Writer, noise: float, n: int) -> tuple[Writer, Decoded]:
    return writer, best_of_n(writer, "", partial(judge, writer, noise), n)


def solved(search: tuple[Writer, Decoded]) -> bool:
    writer, found = search
    return writer.value(found.best.steps) > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--choices", type=int, default=4)
    options = parser.parse_args()
    size = {"steps": options.steps, "choices": options.choices}
    writers = [Writer(number, **size) for number in range(options.problems)]
    share = np.mean([writer.value(()) for writer in writers])
    greedy = np.mean([solved(beam(Writer(number, **size, greedy=True), 0.0, 1, 1)) for number in range(len(writers))])
    print(
        f"{len(writers)} problems; a sample is right with probability {share:.4f}; greedy writing solves {greedy:.1%}"
    )
    print(f"{'beam':<8}{'passes':>8}{'N':>5}" + "".join(f"{f'noise {noise:g}':>20}" for noise in NOISES))
    print(f"{'':<21}" + "".join(f"{'beam':>10}{'best of N':>10}" for _ in NOISES))
    for width, factor in BEAMS:
        cells = []
        for noise in NOISES:
            searches = [beam(writer, noise, width, factor) for writer in writers]
            # A sample is steps + 1 tokens and judged once.
            counts = [max(1, found.budget.forward_passes // (options.steps + 2)) for _, found in searches]
            best = [sampled(writer, noise, n) for writer, n in zip(writers, counts, strict=True)]
            cells.append(f"{np.mean(list(map(solved, searches))):>10.1%}{np.mean(list(map(solved, best))):>10.1%}")
            assert all(
                one.budget.forward_passes <= other.budget.forward_passes or n == 1
                for (_, one), (_, other), n in zip(best, searches, counts, strict=True)
            )
        passes = np.mean([found.budget.forward_passes for _, found in searches])
        print(f"{f'{width} x {factor}':<8}{passes:>8.0f}{np.mean(counts):>5.0f}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
