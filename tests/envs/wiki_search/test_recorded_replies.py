"""The engine against what the originals of its protocols said (`python -m tests.live.wiki_search_parity --record`)."""

import json
import lzma
from functools import cache
from typing import Any

import pytest

from tests.live.wiki_search_parity import RECORDED, differences


@cache
def recorded() -> list[dict[str, Any]]:
    with lzma.open(RECORDED, "rt", encoding="utf-8") as file:
        return json.load(file)


@pytest.mark.parametrize("protocol", ["xml", "search_r1", "react"])
def test_messages_are_answered_as_the_original_did(protocol):
    episodes = [episode for episode in recorded() if episode["protocol"] == protocol]
    assert len(episodes) >= 80
    for episode in episodes:
        assert not differences(episode, episode["replies"], episode["paid"])


def test_another_word_would_be_noticed():
    episode = next(episode for episode in recorded() if episode["protocol"] == "xml")
    (text, ended), *rest = episode["replies"]
    assert differences(episode, [(f"{text}.", ended), *rest], {})
    assert differences(episode, episode["replies"], {**episode["paid"], "tag_counts": 0.123})
