"""Random numbers that depend on named things only: the same on every machine, in every order, in every batch."""


def mix(*numbers: int) -> int:
    """A 64-bit hash of integers (splitmix64), the same on every machine and Python version."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state
