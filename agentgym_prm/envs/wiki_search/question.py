"""A question, what counts as its answer, and where the answer stands."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a data set.

    Attributes:
        id: Its name, stable across machines.
        text: What is asked.
        answers: Accepted forms of the answer, at least one; the first is the data set's own.
        kind: By which results are broken down: the data set's, or ``one_hop``, ``two_hop``, ``comparison``, ….
        supports: Titles of the passages that support the answer, in the order in which they are needed where the data
            set tells; empty where it does not.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    kind: str = ""
    supports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("answers", "supports"):
            if isinstance(getattr(self, name), str):
                raise TypeError(
                    f"question {self.id!r}: {name} must be several texts, got the text {getattr(self, name)!r}"
                )
        if not self.answers:
            raise ValueError(f"question {self.id!r} has no answer")
