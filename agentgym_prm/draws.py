"""Random numbers that depend on where they are used, not on what was drawn before.

Whoever draws by (seed, episode, turn, candidate) chooses alike on every machine, in any batch, slot or resumed run.
"""


def mix(*numbers: int, after: int = 0) -> int:
    """A 64-bit hash of integers (splitmix64), the same on every machine and Python version.

    ``after`` is the hash of those before them, if they were mixed already: ``mix(1, 2) == mix(2, after=mix(1))``.
    """
    state = after
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def uniform(*numbers: int, after: int = 0) -> float:
    """A number in [0, 1) from ``mix``, with 53 random bits."""
    return (mix(*numbers, after=after) >> 11) / 2**53
