import pytest

from agentgym_prm.models import build_tokenizer
from agentgym_prm.transcript import NO_LOGPROB, Chat, Message, Transcript, Turn, build_transcripts
from tests.chat_models import FORGETFUL, TRIMMING, chat_tokenizer

USER, REPLY = "user", "assistant"


def ids(tokenizer, text):
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def turns_of(tokenizer, exchanges, *, open_end=False):
    """Turns of a chat in which the user says and the policy replies; ``logprobs`` are -1, -2, … in each reply."""
    messages, turns = [], []
    for said, replied in exchanges:
        messages.append(Message(USER, said))
        sampled = ids(tokenizer, replied)
        reply = replied.removesuffix("<|im_end|>").removesuffix("<|end|>")
        turns.append(Turn(tuple(messages), reply, sampled, tuple(-1.0 - index for index in range(len(sampled)))))
        messages.append(Message(REPLY, turns[-1].reply))
    if open_end:
        turns[-1] = turns[-1]._replace(reply="", token_ids=(), logprobs=())
    return turns


def rows(tokenizer, transcript):
    """(token, is it the policy's?, turn) of each token."""
    tokens = tokenizer.convert_ids_to_tokens(list(transcript.token_ids))
    return list(zip(tokens, transcript.action_mask, transcript.turn_index, strict=True))


def test_chatml_tokens_masks_and_turns_written_out():
    tokenizer = chat_tokenizer()
    turns = turns_of(tokenizer, [("dark room", "look<|im_end|>"), ("a key", "take key<|im_end|>")])
    (transcript,) = build_transcripts(Chat(tokenizer), turns)
    assert rows(tokenizer, transcript) == [
        ("<|im_start|>", False, 0), ("user", False, 0), ("\n", False, 0),
        ("dark", False, 0), (" ", False, 0), ("room", False, 0), ("<|im_end|>", False, 0), ("\n", False, 0),
        ("<|im_start|>", False, 0), ("assistant", False, 0), ("\n", False, 0),
        ("look", True, 0), ("<|im_end|>", True, 0),
        # The template's line break after the end token is not the policy's.
        ("\n", False, 1),
        ("<|im_start|>", False, 1), ("user", False, 1), ("\n", False, 1),
        ("a", False, 1), (" ", False, 1), ("key", False, 1), ("<|im_end|>", False, 1), ("\n", False, 1),
        ("<|im_start|>", False, 1), ("assistant", False, 1), ("\n", False, 1),
        ("take", True, 1), (" ", True, 1), ("key", True, 1), ("<|im_end|>", True, 1),
    ]  # fmt: skip
    n = NO_LOGPROB
    assert transcript.logprobs == (*[n] * 11, -1.0, -2.0, *[n] * 12, -1.0, -2.0, -3.0, -4.0)
    assert transcript.reason == "first"


def test_a_reply_that_was_cut_off_gets_its_end_token_as_context():
    tokenizer = chat_tokenizer()
    turns = turns_of(tokenizer, [("dark", "look look"), ("light", "look<|im_end|>")])
    (transcript,) = build_transcripts(Chat(tokenizer), turns)
    assert rows(tokenizer, transcript)[9:16] == [
        ("look", True, 0), (" ", True, 0), ("look", True, 0),
        ("<|im_end|>", False, 1), ("\n", False, 1), ("<|im_start|>", False, 1), ("user", False, 1),
    ]  # fmt: skip


def test_the_tiny_models_own_format_written_out():
    tokenizer = build_tokenizer(["go to: fridge 1", "open:", "task: put"])
    turns = turns_of(tokenizer, [("task: go to fridge 1", "go to fridge 3<|end|>"), ("open", "open fridge 1<|end|>")])
    (transcript,) = build_transcripts(Chat(tokenizer), turns)
    assert rows(tokenizer, transcript) == [
        ("<|user|>", False, 0), ("task", False, 0), (":", False, 0),
        # " go to" with a space before it was not in the texts, so it is spelled in bytes.
        *[(f"<0x{byte:02X}>", False, 0) for byte in b" go to"],
        (" fridge 1", False, 0),
        ("<|end|>", False, 0), ("<|assistant|>", False, 0),
        ("go to", True, 0), (" fridge 3", True, 0), ("<|end|>", True, 0),
        ("<|user|>", False, 1), ("open", False, 1), ("<|end|>", False, 1), ("<|assistant|>", False, 1),
        ("open", True, 1), (" fridge 1", True, 1), ("<|end|>", True, 1),
    ]  # fmt: skip


def test_a_template_that_rewrites_history_is_caught_and_starts_a_second_transcript():
    tokenizer = chat_tokenizer(FORGETFUL)
    exchanges = [("dark", "<think> it is dark </think> look<|im_end|>"), ("key", "take<|im_end|>")]
    turns = turns_of(tokenizer, exchanges)
    first, second = build_transcripts(Chat(tokenizer), turns)
    assert (first.reason, second.reason) == ("first", "template")
    assert [row[0] for row in rows(tokenizer, first) if row[1]][-4:] == ["</think>", " ", "look", "<|im_end|>"]
    # In the second one the earlier reply is context, as the template now shows it, and is not trained on again.
    assert rows(tokenizer, second) == [
        *[(token, False, 1) for token in ("<|im_start|>", "user", "\n", "dark", "<|im_end|>", "\n")],
        *[(token, False, 1) for token in ("<|im_start|>", "assistant", "\n", " ", "look", "<|im_end|>", "\n")],
        *[(token, False, 1) for token in ("<|im_start|>", "user", "\n", "key", "<|im_end|>", "\n")],
        *[(token, False, 1) for token in ("<|im_start|>", "assistant", "\n")],
        ("take", True, 1), ("<|im_end|>", True, 1),
    ]  # fmt: skip
    assert not second.continues(first)


def test_the_same_turns_make_one_transcript_if_the_template_keeps_history():
    tokenizer = chat_tokenizer()
    turns = turns_of(tokenizer, [("dark", "<think> dark </think> look<|im_end|>"), ("key", "take<|im_end|>")])
    assert len(build_transcripts(Chat(tokenizer), turns)) == 1


def test_a_prompt_that_drops_earlier_turns_starts_a_second_transcript():
    tokenizer = chat_tokenizer()
    turns = turns_of(tokenizer, [("dark", "look<|im_end|>"), ("key", "take<|im_end|>")])
    turns[1] = turns[1]._replace(messages=turns[1].messages[2:])
    first, second = build_transcripts(Chat(tokenizer), turns)
    assert second.reason == "prompt"
    assert sum(first.action_mask) == sum(second.action_mask) == 2
    assert "dark" not in [row[0] for row in rows(tokenizer, second)]


def test_sampled_ids_stay_although_encoding_the_text_again_would_give_others():
    tokenizer = build_tokenizer(["look open", "look"])
    spelled = tuple(tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in b"look")
    end = tokenizer.eos_token_id
    assert tokenizer.decode(list(spelled)) == "look"
    assert ids(tokenizer, "look") != spelled
    messages = (Message(USER, "look"),)
    turns = [
        Turn(messages, "look", (*spelled, end)),
        Turn((*messages, Message(REPLY, "look"), Message(USER, "open"))),
    ]
    (transcript,) = build_transcripts(Chat(tokenizer), turns)
    assert [i for i, mine in zip(transcript.token_ids, transcript.action_mask, strict=True) if mine] == [*spelled, end]


def test_white_space_that_a_template_trims_stays_as_sampled():
    tokenizer = chat_tokenizer(TRIMMING)
    turns = turns_of(tokenizer, [("dark", " look \n<|im_end|>"), ("key", "take<|im_end|>")])
    (transcript,) = build_transcripts(Chat(tokenizer), turns)
    assert [row[0] for row in rows(tokenizer, transcript) if row[1] and row[2] == 0] == [
        " ",
        "look",
        " ",
        "\n",
        "<|im_end|>",
    ]


def test_what_the_sampler_is_sent_grows_into_what_the_trainer_sees():
    tokenizer = chat_tokenizer()
    exchanges = [("dark", "look<|im_end|>"), ("a key", "take key"), ("door", "open door<|im_end|>")]
    (whole,) = build_transcripts(Chat(tokenizer), turns_of(tokenizer, exchanges))
    for count in range(1, 4):
        (sent,) = build_transcripts(Chat(tokenizer), turns_of(tokenizer, exchanges[:count], open_end=True))
        assert whole.continues(sent)
        assert whole.action_mask[len(sent)]
        assert whole.turn_index[len(sent)] == count - 1


def test_a_reply_without_token_ids_is_refused_and_not_encoded_again():
    tokenizer = chat_tokenizer()
    turns = turns_of(tokenizer, [("dark", "look<|im_end|>"), ("key", "take<|im_end|>")])
    turns[0] = turns[0]._replace(token_ids=())
    with pytest.raises(ValueError, match="turn 0 has no token ids"):
        build_transcripts(Chat(tokenizer), turns)


def test_another_number_of_logprobs_than_ids_is_refused():
    with pytest.raises(ValueError, match="2 token ids but 1 log-prob"):
        Transcript().with_action((1, 2), (0.0,), 0)
