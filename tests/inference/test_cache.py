import threading

import pytest

from agentgym_prm.inference import Completion, CompletionCache, Usage

IDENTITY = {"vendor": "openai", "base_url": "http://a", "parameters": {"model": "m", "messages": ["x"]}, "sample": 0}


def test_what_is_stored_comes_back_with_its_usage_and_says_that_it_was_stored(tmp_path):
    cache = CompletionCache(tmp_path)
    usage = Usage(1, 2, 3, 4, 5, None)
    completion = Completion("öäü\n\ud83d?", "length", usage, token_ids=(7, 8), logprobs=(-0.5, -1.0))
    key = cache.key(IDENTITY)
    assert cache.get(key) is None
    cache.put(key, completion)
    found = CompletionCache(tmp_path).get(key)
    assert found == Completion(
        completion.text, "length", completion.usage, from_cache=True, token_ids=(7, 8), logprobs=(-0.5, -1.0)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"vendor": "gemini"},
        {"base_url": "http://b"},
        {"parameters": {"model": "n", "messages": ["x"]}},
        {"parameters": {"model": "m", "messages": ["y"]}},
        {"sample": 1},
        {"draw": [1]},
    ],
)
def test_whatever_decides_a_completion_decides_its_key(change):
    assert CompletionCache.key({**IDENTITY, **change}) != CompletionCache.key(IDENTITY)


def test_the_order_of_names_does_not():
    assert CompletionCache.key(dict(reversed(IDENTITY.items()))) == CompletionCache.key(IDENTITY)


@pytest.mark.parametrize("content", [b"", b'{"text": "a', b"[]", b'{"text": "a"}', b"\xff"])
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path, content):
    cache = CompletionCache(tmp_path)
    cache.put("ab12", Completion("good"))
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(content)
    assert cache.get("ab12") is None
    cache.put("ab12", Completion("good again"))
    assert cache.get("ab12").text == "good again"


def test_threads_that_write_one_key_leave_one_whole_file(tmp_path):
    cache = CompletionCache(tmp_path)
    texts = [str(number) * 2000 for number in range(8)]
    threads = [threading.Thread(target=cache.put, args=("ab12", Completion(text))) for text in texts for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("ab12").text in texts
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
