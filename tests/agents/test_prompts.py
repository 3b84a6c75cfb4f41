import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest

from agentgym_prm.agents.prompts import PROMPTS, Encoder, Prompt
from agentgym_prm.envs.alfworld import ALFWorldEnv
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.models import build_tokenizer
from agentgym_prm.transcript import Chat, Message
from agentgym_prm.types import Action, History, Step, Trajectory
from tests.chat_models import chat_tokenizer

INTRO = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see a "
    "fridge 1, and a desk 1.\n\nYour task is to: put a cool mug in desk."
)
STEPS = (
    Step(INTRO, ("go to desk 1", "go to fridge 1", "look"), Action("go to fridge 1")),
    Step("You arrive at fridge 1. The fridge 1 is closed.", ("open fridge 1",), Action("open fridge 1")),
)
HISTORY = History(
    "put a cool mug in desk.",
    "You open the fridge 1. The fridge 1 is open. In it, you see a mug 2, and a egg 1.",
    ("close fridge 1", "examine fridge 1", "go to desk 1", "look", "take mug 2 from fridge 1"),
    STEPS,
)


def test_the_memory_prompt_written_out():
    (message,) = Prompt.load("memory").messages(HISTORY)
    assert message == Message(
        "user",
        "task: put a cool mug in desk.\n"
        " fridge 1: mug 2 egg 1\n"
        " desk 1 ?\n"
        "at: fridge 1\n"
        "hand:\n"
        "last: go to fridge 1; open fridge 1;\n"
        "close: fridge 1\n"
        "examine: fridge 1\n"
        "go to: desk 1\n"
        ": look\n"
        "take: mug 2 from fridge 1\n",
    )


def test_the_brief_prompt_written_out():
    """The egg is not named in the task; the desk has not been looked at; a command that failed says so."""
    failed = Step(HISTORY.observation, HISTORY.admissible_commands, Action("take mug 1"), info={"valid_action": False})
    later = replace(HISTORY, steps=(*STEPS, failed), observation="Nothing happens.")
    (message,) = Prompt.load("brief").messages(later)
    assert message == Message(
        "user",
        "new desk 1\n"
        "closed\n"
        " mug 2 in fridge 1\n"
        "at fridge 1\n"
        "hand\n"
        "last open fridge 1; take mug 1 failed;\n"
        "put a cool mug in desk.\n",
    )
    (message,) = Prompt.load("brief").messages(Trajectory("put a cool mug in desk.", 0, STEPS, "").history(1))
    assert message.content == (
        "new desk 1\nclosed fridge 1\nat open\nhand\nlast go to fridge 1;\nput a cool mug in desk.\n"
    )


def test_the_frontier_prompt_names_one_unseen_place_of_each_class():
    intro = INTRO.replace("and a desk 1", "a drawer 2, a drawer 1, and a desk 1")
    steps = (replace(STEPS[0], observation=intro), STEPS[1])
    (message,) = Prompt.load("frontier").messages(replace(HISTORY, steps=steps))
    assert message.content == (
        "new desk 1 drawer 1\nclosed\ngoal desk 1\n mug 2 in fridge 1\nat fridge 1\nhand\nput a cool mug in desk.\n"
    )


def test_the_bare_prompt_is_the_transcript():
    messages = Prompt.load("bare").messages(HISTORY)
    assert messages == (
        Message("user", INTRO),
        Message("assistant", "go to fridge 1"),
        Message("user", STEPS[1].observation),
        Message("assistant", "open fridge 1"),
        Message("user", HISTORY.observation),
    )


SHOP_TASK = "i need a red mug, size big, and price lower than 20.00 dollars"
SHOP_PAGE = f"Instruction:\n{SHOP_TASK}\n[button] Back to Search [button_]\n"
SHOP_STEPS = (
    Step(
        f"WebShop\nInstruction: \n{SHOP_TASK}\n[button] Search [button_]\n",
        ("search[big]", "search[red mug size big]"),
        Action("search[red mug size big]"),
    ),
    Step(
        f"{SHOP_PAGE}Page 1 (Total results: 2)\n[button] Next > [button_]\n"
        "\n[button] B1 [button_]\nMug in Red by Nobody\n$12.6\n\n[button] B2 [button_]\nGlass, red\n$15.5 to $40.0\n",
        ("click[b1]", "click[b2]", "click[back to search]", "click[next >]"),
        Action("click[b1]"),
    ),
    Step(
        f"{SHOP_PAGE}[button] < Prev [button_]\ncolor\n  [button] red [button_]\nsize\n  [button] big [button_]\n"
        "  [button] tiny [button_]\nMug in Red by Nobody\nPrice: $12.6\nRating: N.A.\n[button] Features [button_]\n"
        "[button] Buy Now [button_]\n",
        ("click[< prev]", "click[big]", "click[buy now]", "click[features]", "click[red]", "click[tiny]"),
        Action("click[big]"),
    ),
)
SHOPPING = History(SHOP_TASK, SHOP_STEPS[2].observation, SHOP_STEPS[2].admissible_commands, SHOP_STEPS)


def test_the_shop_prompt_written_out():
    """Of texts only words of the instruction are shown; 15.5 to 40 dollars are 27.75 on average, above the limit."""
    histories = Trajectory(SHOP_TASK, 0, SHOP_STEPS, "").histories()
    shown = [Prompt.load("shop").messages(history) for history in (*histories, SHOPPING)]
    assert [message.content for (message,) in shown] == [
        f"search\nsearch[big]\nsearch[red mug size big]\nlast\n{SHOP_TASK}\n",
        f"results 1\nmug red 13 click[b1]\nred over click[b2]\nlast search[red mug size big]\n{SHOP_TASK}\n",
        "item mug red 13\ncolor click[red]\nsize click[big] click[tiny]\nlast search[red mug size big] click[b1]\n"
        f"{SHOP_TASK}\n",
        f"item mug red 13\ncolor click[red]\nsize big\nlast click[b1] click[big]\n{SHOP_TASK}\n",
    ]


@pytest.mark.parametrize("name", ["shop", "shopping_bare", "shopping_reason_action", "shopping_thought_action"])
def test_prompts_for_shopping_keep_commands_as_they_are_written(name):
    prompt = Prompt.load(name)
    command = "search[Red Mug, 10.5 oz]"
    assert prompt.parse(prompt.render_reply(Action(command, reasoning="why"))).command == command
    assert Prompt.load("bare").parse(command).command != command  # as a household would have it


def test_conversations_about_shopping_show_the_pages_as_they_are():
    for name in ("shopping_bare", "shopping_reason_action", "shopping_thought_action"):
        messages = Prompt.load(name).messages(SHOPPING)
        users = [message.content for message in messages if message.role == "user"]
        assert len(users) == 4
        assert all(page in user for user, page in zip(users, [s.observation for s in SHOP_STEPS], strict=False))
    assert "click[tiny]" in Prompt.load("shopping_reason_action").messages(SHOPPING)[-1].content
    thought = Prompt.load("shopping_thought_action").messages(SHOPPING)
    assert thought[0].content.count("Action: ") == 6  # one in the form, five in the example
    assert thought[2].content == "Thought: \nAction: search[red mug size big]"


def test_a_prompt_loads_the_environment_that_it_is_for_and_no_other():
    code = (
        "import sys; from agentgym_prm.agents.prompts import Prompt; from agentgym_prm.types import History\n"
        "Prompt.load({!r}).messages(History('t', 'o', ('a',)))\n"
        "print(*(name for name in sys.modules if name in ('agentgym_prm.envs.alfworld', 'agentgym_prm.envs.webshop')))"
    )
    for name, loaded in (("brief", "agentgym_prm.envs.alfworld\n"), ("shop", "agentgym_prm.envs.webshop\n")):
        run = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True, check=True)
        assert run.stdout == loaded


def test_reason_action_lists_the_commands_of_each_turn():
    messages = Prompt.load("reason_action").messages(HISTORY)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[1].content.startswith("TASK: put a cool mug in desk.\nOBSERVATION:\n-= Welcome")
    assert messages[2].content == "REASON:\n\nACTION:\ngo to fridge 1"
    assert messages[3].content.endswith("COMMANDS:\nopen fridge 1")
    assert "TASK" not in messages[3].content


def test_the_exploration_prompt_differs_in_its_instructions_only():
    explore, plain = (Prompt.load(name).messages(HISTORY) for name in ("exploration", "reason_action"))
    assert "hypothesis" in explore[0].content
    assert explore[1:] == plain[1:]


def test_what_the_model_wrote_is_shown_rather_than_what_it_meant():
    step = Step("x", (), Action("look", reply="ACTION: Look!!", token_ids=(1,)))
    messages = Prompt.load("reason_action").messages(History("t", "y", (), (step,)))
    assert messages[2].content == "ACTION: Look!!"


@pytest.mark.parametrize("name", [name for name in PROMPTS if Prompt.load(name).style == "conversation"])
def test_earlier_messages_never_change(name):
    prompt = Prompt.load(name)
    trajectory = Trajectory("put a cool mug in desk.", 0, (*STEPS, Step(HISTORY.observation, (), Action("look"))), "")
    shown = [prompt.messages(history) for history in trajectory.histories()]
    for before, after in pairwise(shown):
        assert after[: len(before)] == before


def test_a_window_drops_whole_oldest_turns_and_says_how_many():
    prompt = Prompt.load("bare", max_turns=2)
    messages = prompt.messages(HISTORY)
    assert prompt.dropped(HISTORY) == 1
    assert [message.role for message in messages] == ["user", "assistant", "user"]
    assert messages[0].content == (
        "Your task is to: put a cool mug in desk. (1 earlier turns are not shown.)\n" + STEPS[1].observation
    )


def test_a_template_of_ones_own_replaces_the_built_in_ones(tmp_path):
    path = tmp_path / "mine.j2"
    path.write_text(
        '{% set style = "conversation" %}{% set reply_format = "xml" %}{% set commands = "verbatim" %}'
        "{% block user %}{{ turn }}: {{ observation }}{% endblock %}"
    )
    prompt = Prompt.load(path)
    assert (prompt.name, prompt.style, prompt.reply_format.name) == ("mine", "conversation", "xml")
    assert prompt.messages(History("t", "hello")) == (Message("user", "0: hello"),)
    assert prompt.parse("<answer>Oslo</answer>").command == "<answer>Oslo</answer>"


def test_wrong_prompts_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'memory'"):
        Prompt.load("memori")
    with pytest.raises(UnknownNameError, match=r"unknown memory 'shopp' .did you mean 'shop'"):
        Prompt("x", Prompt.load("shop").source.replace('memory = "shop"', 'memory = "shopp"'))
    with pytest.raises(UnknownNameError, match="style"):
        Prompt("x", '{% set style = "chat" %}{% block user %}{% endblock %}')
    with pytest.raises(ValueError, match="block 'user'"):
        Prompt("x", '{% set style = "state" %}{% set reply_format = "bare" %}{% set commands = "verbatim" %}')
    with pytest.raises(ValueError, match="max_turns"):
        Prompt.load("bare", max_turns=0)


def test_a_state_prompt_makes_one_transcript_a_turn():
    encoder = Encoder(Prompt.load("memory"), Chat(chat_tokenizer()))
    steps = tuple(Step(s.observation, s.admissible_commands, encoder.with_token_ids(s.action)) for s in STEPS)
    transcripts = encoder.trajectory(Trajectory("t", 0, steps, ""))
    assert [transcript.reason for transcript in transcripts] == ["first", "prompt"]
    for turn, (transcript, step) in enumerate(zip(transcripts, steps, strict=True)):
        actions = [i for i, mine in zip(transcript.token_ids, transcript.action_mask, strict=True) if mine]
        assert tuple(actions) == step.action.token_ids
        assert set(transcript.turn_index) == {turn}
        sent = encoder.history(Trajectory("t", 0, steps, "").histories()[turn]).token_ids
        assert transcript.token_ids == (*sent, *actions)


def test_replies_are_encoded_for_demonstrations_only_and_only_once():
    encoder = Encoder(Prompt.load("bare"), Chat(chat_tokenizer()))
    with pytest.raises(ValueError, match="turn 0 has no token ids"):
        encoder.trajectory(Trajectory("t", 0, STEPS, ""))
    action = encoder.with_token_ids(Action("open door"))
    assert chat_tokenizer().convert_ids_to_tokens(list(action.token_ids)) == ["open", " ", "door", "<|im_end|>"]
    with pytest.raises(ValueError, match="was sampled"):
        encoder.with_token_ids(action)


# --- many at once ---


def random_histories(count):
    """Histories of random walks, as they come to a batched agent: of different length, some twice."""
    draws = random.Random(0)
    for seed in range(count):
        env = ALFWorldEnv(split="train", difficulty="small")
        observation, info = env.reset(seed=seed % 5)
        history = History(info["task"], observation, info["admissible_commands"])
        for _ in range(draws.randrange(12)):
            command = draws.choice(history.admissible_commands)
            step = Step(history.observation, history.admissible_commands, Action(command, token_ids=(5, 2)))
            observation, _, over, _, info = env.step(command)
            if over:
                break
            history = history.after(step, observation, info)
        yield history


def spelled_out(prompt, tokenizer, history):
    messages = [message._asdict() for message in prompt.messages(history)]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tuple(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("joint_names", [True, False])
def test_many_histories_are_encoded_as_each_alone(joint_names):
    histories, prompt = list(random_histories(60)), Prompt.load("memory")
    texts = [prompt.messages(history)[-1].content for history in histories[:20]]
    tokenizer = build_tokenizer(texts, joint_names=joint_names)
    expected = [spelled_out(Prompt.load("memory"), tokenizer, history) for history in histories]
    # Someone else has left the tokenizer with truncation and padding.
    tokenizer(texts, padding=True, truncation=True, max_length=8)
    encoder = Encoder(prompt, Chat(tokenizer))
    for _ in range(2):
        assert [each.token_ids for each in encoder.histories(histories)] == expected
    assert [encoder.history(history).token_ids for history in histories] == expected
    limited = Encoder(prompt, Chat(tokenizer), max_tokens=max(map(len, expected)))
    assert [each.token_ids for each in limited.histories(histories)] == expected
    with pytest.raises(ValueError, match="alone takes"):
        Encoder(prompt, Chat(tokenizer), max_tokens=max(map(len, expected)) - 1).histories(histories)


def test_many_conversations_are_encoded_as_each_alone():
    tokenizer, prompt = chat_tokenizer(), Prompt.load("bare")
    histories = list(random_histories(10))
    alone = [Encoder(prompt, Chat(tokenizer)).history(history) for history in histories]
    assert Encoder(prompt, Chat(tokenizer)).histories(histories) == alone


def test_a_tokenizer_whose_backend_encodes_otherwise_is_asked_itself():
    class Shouting:
        """Its backend knows nothing of what it does to a text first."""

        def __init__(self):
            self.inner = chat_tokenizer()
            self.eos_token_id, self.backend_tokenizer = self.inner.eos_token_id, self.inner.backend_tokenizer
            self.apply_chat_template, self.decode = self.inner.apply_chat_template, self.inner.decode

        def encode(self, text, **kwargs):
            return self.inner.encode(text + " a", **kwargs)

    histories = list(random_histories(5))
    tokenizer, prompt = Shouting(), Prompt.load("memory")
    encoded = Encoder(prompt, Chat(tokenizer)).histories(histories)
    assert [each.token_ids for each in encoded] == [spelled_out(prompt, tokenizer, history) for history in histories]


def test_no_more_texts_are_kept_than_a_bound(monkeypatch):
    monkeypatch.setattr("agentgym_prm.transcript._KEPT", 3)
    tokenizer, prompt = chat_tokenizer(), Prompt.load("memory")
    encoder = Encoder(prompt, Chat(tokenizer))
    for history in random_histories(30):
        assert encoder.history(history).token_ids == spelled_out(prompt, tokenizer, history)
        encoder.chat.decode((5, 6, len(history.steps)))
        assert max(map(len, (encoder.chat._rendered, encoder.chat._encoded, encoder.chat._decoded))) <= 3
