"""From a history to chat messages, and from there to the token ids that a sampler and a trainer share.

A prompt is a Jinja template: one of those beside this file, by name, or any file. It sets a few variables and fills one
or two blocks::

    {% set style = "conversation" %}        or "state": only the present turn is shown, rendered afresh every time
    {% set reply_format = "reason_action" %} a name from envs.parsing.REPLY_FORMATS
    {% set commands = "household" %}         a name from envs.parsing.CLEANERS
    {% set memory = "room" %}                optional, in the style "state": a name from MEMORIES
    {% block system %}…{% endblock %}        optional
    {% block user %}…{% endblock %}          one turn

Blocks see ``task``, ``observation``, ``admissible_commands``, ``turn`` (from 0), ``first`` (the first turn shown),
``dropped`` (turns that are not shown) and, in the style "state", ``steps`` and ``memory`` (what the texts have told so
far). ``{{ tools }}`` stands for a description of the tools that can be called (``Prompt.load``). In a conversation, a
block sees its own turn only: that is what keeps earlier messages as they were.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from agentgym_prm.envs.parsing import CLEANERS, REPLY_FORMATS, ParsedReply, ReplyFormat, parse_reply
from agentgym_prm.errors import UnknownNameError, needs_extra
from agentgym_prm.folding import HistoryFold, Reading
from agentgym_prm.transcript import Chat, Message, Transcript, Turn, build_transcripts
from agentgym_prm.types import Action, History, Step, Trajectory

PROMPTS: Final = (
    "bare",
    "brief",
    "exploration",
    "frontier",
    "home",
    "home_bare",
    "home_reason_action",
    "home_thought_action",
    "memory",
    "reason_action",
    "shop",
    "shopping_bare",
    "shopping_reason_action",
    "shopping_thought_action",
    "thought_action",
    "wiki",
    "wiki_react",
    "wiki_search_r1",
    "wiki_xml",
)
"""The prompts that come with the package."""
STYLES: Final = ("conversation", "state")
_TOOLS: Final = "{{ tools }}"
MEMORIES: Final = ("room", "shop", "home")
"""What reads the texts for prompts of the style "state": ``RoomMemory`` of ALFWorld, ``ShopMemory`` of WebShop,
``HomeMemory`` of VirtualHome."""


@dataclass(frozen=True)
class Prompt:
    """What a model is shown.

    Attributes:
        name: How it is called in reports.
        source: The template's text.
        max_turns: At most so many turns are shown, the present one included; the oldest go first, whole.
            ``None`` shows all.
    """

    name: str
    source: str = field(repr=False)
    max_turns: int | None = None

    def __post_init__(self) -> None:
        if self.max_turns is not None and self.max_turns < 1:
            raise ValueError(f"max_turns must be at least 1 or None, got {self.max_turns}")
        if self.style not in STYLES:
            raise UnknownNameError.of("prompt style", self.style, STYLES)
        if self._variable("reply_format") not in REPLY_FORMATS:
            raise UnknownNameError.of("reply format", self._variable("reply_format"), REPLY_FORMATS)
        if self._variable("commands") not in CLEANERS:
            raise UnknownNameError.of("command cleaner", self._variable("commands"), CLEANERS)
        if self._memory not in MEMORIES:
            raise UnknownNameError.of("memory", self._memory, MEMORIES)
        if "user" not in self._template.blocks:
            raise ValueError(f"prompt {self.name!r} has no block 'user': every prompt needs {{% block user %}}")

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        max_turns: int | None = None,
        tools: Sequence[Callable[..., Any]] | None = None,
    ) -> "Prompt":
        """A prompt that comes with the package, by name, or any template file.

        Args:
            name_or_path: Which one.
            max_turns: At most so many turns are shown.
            tools: Functions whose signatures and docstrings are told where the template has ``{{ tools }}``; by default
                the search of ``WikiSearchEnv`` alone. Its ``tools`` are all that it has.

        Raises:
            UnknownNameError: Neither a name nor an existing file.
            MissingDependencyError: Jinja is not installed.
        """
        path = Path(name_or_path)
        if path.suffix and path.is_file():
            return cls(path.stem, _with_tools(path.read_text(encoding="utf-8"), tools), max_turns)
        if name_or_path not in PROMPTS:
            raise UnknownNameError.of("prompt", str(name_or_path), PROMPTS)
        template = files("agentgym_prm.agents").joinpath("templates", f"{name_or_path}.j2")
        return cls(str(name_or_path), _with_tools(template.read_text(encoding="utf-8"), tools), max_turns)

    @cached_property
    def _template(self) -> Any:
        with needs_extra("train"):
            from jinja2 import Environment, StrictUndefined
        return Environment(undefined=StrictUndefined, autoescape=False).from_string(self.source)

    @cached_property
    def _memories(self) -> HistoryFold[Reading]:
        return HistoryFold(_beginning(self._memory))

    @property
    def _memory(self) -> str:
        return self._variable("memory") or MEMORIES[0]

    def _variable(self, name: str) -> str:
        return self._settings.get(name, "")

    @cached_property
    def _settings(self) -> dict[str, str]:
        from jinja2 import nodes

        assignments = self._template.environment.parse(self.source).find_all(nodes.Assign)
        return {each.target.name: each.node.as_const() for each in assignments if isinstance(each.node, nodes.Const)}

    @property
    def style(self) -> str:
        """``"conversation"`` or ``"state"``."""
        return self._variable("style")

    @property
    def reply_format(self) -> ReplyFormat:
        """How replies are written."""
        return REPLY_FORMATS[self._variable("reply_format")]

    def parse(self, reply: str) -> ParsedReply:
        """Read a model's reply."""
        return parse_reply(reply, self.reply_format.name, self._variable("commands"))

    def render_reply(self, action: Action) -> str:
        """The reply of an action: what the model wrote, else what it would have written."""
        return action.reply or self.reply_format.render(action.command, action.reasoning)

    def dropped(self, history: History) -> int:
        """How many of the oldest turns are not shown because of ``max_turns``."""
        return max(0, len(history.steps) + 1 - self.max_turns) if self.max_turns else 0

    def messages(self, history: History, dropped: int | None = None) -> tuple[Message, ...]:
        """The messages that end with the present observation.

        Args:
            history: What the agent may know.
            dropped: How many of the oldest turns to leave out; by default what ``max_turns`` asks for.
        """
        dropped = self.dropped(history) if dropped is None else dropped
        shown: list[Message] = []
        if system := self._block("system", task=history.task):
            shown.append(Message("system", system))
        if self.style == "state":
            return (*shown, Message("user", self._state(history)))
        for turn, step in enumerate(history.steps[dropped:], dropped):
            shown.append(self._user(history.task, step.observation, step.admissible_commands, turn, dropped))
            shown.append(Message("assistant", self.render_reply(step.action)))
        shown.append(
            self._user(history.task, history.observation, history.admissible_commands, len(history.steps), dropped)
        )
        return tuple(shown)

    def _user(self, task: str, observation: str, commands: tuple[str, ...], turn: int, dropped: int) -> Message:
        text = self._block(
            "user",
            task=task,
            observation=observation,
            admissible_commands=commands,
            turn=turn,
            first=turn == dropped,
            dropped=dropped,
        )
        return Message("user", text)

    def _state(self, history: History) -> str:
        return self._block(
            "user",
            task=history.task,
            observation=history.observation,
            admissible_commands=history.admissible_commands,
            turn=len(history.steps),
            first=True,
            dropped=0,
            steps=history.steps,
            memory=self._memories.of(history),
        )

    def _block(self, name: str, **values: Any) -> str:
        if name not in self._template.blocks:
            return ""
        return "".join(self._template.blocks[name](self._template.new_context(values)))


def _with_tools(source: str, tools: Sequence[Callable[..., Any]] | None) -> str:
    """A template with the descriptions of tools written into it, so that it is whole wherever it is kept."""
    if _TOOLS not in source:
        if tools:
            raise ValueError(f"the prompt tells of no tools: a template needs {_TOOLS} to be given some")
        return source
    # Imported late: a prompt loads the environment that it is for, no other.
    from agentgym_prm.envs.wiki_search.tools import NoPassages, describe, wiki_search_over

    described = describe((wiki_search_over(NoPassages()),) if tools is None else tools)
    return source.replace(_TOOLS, f"{{% raw %}}{described}{{% endraw %}}")


def _beginning(memory: str) -> Callable[[str, str, tuple[str, ...]], Reading]:
    """What reads the opening of an episode. Imported late: a prompt loads the environment that it is for, no other."""
    if memory == "shop":
        from agentgym_prm.envs.webshop.memory import ShopMemory

        return ShopMemory.begin
    if memory == "home":
        from agentgym_prm.envs.virtualhome.memory import HomeMemory

        return HomeMemory.begin
    from agentgym_prm.envs.alfworld.memory import RoomMemory

    return RoomMemory.begin


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a model is sent for a history: the transcripts so far, the last of which ends where the reply begins.

    ``dropped`` counts the turns that it does not show.
    """

    transcripts: tuple[Transcript, ...]
    dropped: int = 0

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The ids that go to the sampler."""
        return self.transcripts[-1].token_ids


class Encoder:
    """Turns histories and trajectories into transcripts: the sampler and the trainer use the same one.

    Args:
        prompt: What is shown.
        chat: The model's chat format.
        max_tokens: Longest transcript, replies to come not counted: as many of the oldest turns as necessary are left
            out, whole. ``None`` for no limit.
    """

    def __init__(self, prompt: Prompt, chat: Chat, max_tokens: int | None = None) -> None:
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1 or None, got {max_tokens}")
        self.prompt, self.chat, self.max_tokens = prompt, chat, max_tokens

    def history(self, history: History) -> Encoded:
        """What the model is sent to choose its next reply.

        Raises:
            ValueError: The present turn alone is longer than ``max_tokens``, or an earlier reply has no token ids and
                the prompt shows it (an agent without tokens played before: use ``with_token_ids``).
        """
        if self.prompt.style == "state":
            return self.histories([history])[0]
        turns, dropped = self._turns((*_earlier(history), history))
        return Encoded(build_transcripts(self.chat, turns), dropped)

    def histories(self, histories: Sequence[History]) -> list[Encoded]:
        """As ``history`` for each, in less time.

        Raises:
            ValueError: As ``history``.
        """
        if self.prompt.style != "state":
            return [self.history(history) for history in histories]
        # No turn continues another, so the earlier ones need not be rendered, and each is encoded whole.
        shown = [self.prompt.messages(history) for history in histories]
        self.chat.prepare(shown)
        turns = [self._turn(history, 0, messages) for history, messages in zip(histories, shown, strict=True)]
        return [Encoded(build_transcripts(self.chat, [turn]), dropped) for turn, dropped in turns]

    def trajectory(self, trajectory: Trajectory) -> tuple[Transcript, ...]:
        """What the model was sent and what it replied, over a whole episode.

        Raises:
            ValueError: A reply has no token ids.
        """
        turns, _ = self._turns(trajectory.histories())
        actions = [step.action for step in trajectory.steps]
        complete = [
            turn._replace(reply=self.prompt.render_reply(action), token_ids=action.token_ids, logprobs=action.logprobs)
            for turn, action in zip(turns, actions, strict=True)
        ]
        for index, turn in enumerate(complete):
            if not turn.token_ids:
                raise ValueError(f"turn {index} has no token ids: replies are not encoded again (see with_token_ids)")
        return build_transcripts(self.chat, complete)

    def with_token_ids(self, action: Action) -> Action:
        """A demonstration as a policy would have sampled it: reply written out, encoded once, end token included.

        Raises:
            ValueError: The action has token ids already.
        """
        if action.token_ids:
            raise ValueError("the action was sampled: its token ids are not encoded again")
        reply = self.prompt.render_reply(action)
        return Action(
            command=action.command,
            reply=reply,
            reasoning=action.reasoning,
            token_ids=self.chat.reply_ids(reply),
            stop_reason=action.stop_reason,
            usage=action.usage,
            scores=action.scores,
        )

    def steps_with_token_ids(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """Steps whose replies all have token ids: a demonstration's are encoded, sampled ones stay as they are."""
        return tuple(
            step if step.action.token_ids else replace(step, action=self.with_token_ids(step.action)) for step in steps
        )

    def _turns(self, histories: Sequence[History]) -> tuple[list[Turn], int]:
        turns, dropped = [], 0
        for history, after in zip(histories, (*histories[1:], None), strict=True):
            turn, dropped = self._turn(history, dropped)
            if after is not None:
                action = after.steps[-1].action
                turn = turn._replace(
                    reply=self.prompt.render_reply(action), token_ids=action.token_ids, logprobs=action.logprobs
                )
            turns.append(turn)
        return turns, dropped

    def _turn(
        self, history: History, at_least: int = 0, messages: tuple[Message, ...] | None = None
    ) -> tuple[Turn, int]:
        """The turn, and how many of the oldest are left out: never fewer than at the turn before.

        ``messages`` are those that the prompt shows, if they are known.
        """
        dropped = max(at_least, self.prompt.dropped(history))
        messages = messages or self.prompt.messages(history, dropped)
        while self.max_tokens is not None:
            length = len(self.chat.encode(self.chat.render(messages)))
            if length <= self.max_tokens:
                break
            if self.prompt.style == "state" or dropped >= len(history.steps):
                raise ValueError(
                    f"turn {len(history.steps)} alone takes {length} tokens, max_tokens is {self.max_tokens}: raise it"
                )
            dropped += 1
            messages = self.prompt.messages(history, dropped)
        return Turn(messages), dropped


def _earlier(history: History) -> tuple[History, ...]:
    episode = Trajectory(
        task=history.task,
        seed=history.seed,
        steps=history.steps,
        final_observation=history.observation,
        task_id=history.task_id,
        task_type=history.task_type,
        episode=history.episode,
    )
    return episode.histories()
