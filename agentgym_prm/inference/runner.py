"""Many requests side by side: the cache is asked first, then the server, under a limit, with retries and a budget."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Final

from agentgym_prm.errors import ServiceError, UsageError
from agentgym_prm.inference.budget import Budget
from agentgym_prm.inference.cache import CompletionCache
from agentgym_prm.inference.core import ChatRequest, Completion, Usage
from agentgym_prm.inference.prices import Prices
from agentgym_prm.inference.retry import PermanentFailure, RetryPolicy, TemporaryFailure
from agentgym_prm.inference.vendor import Answer, Vendor

_log = logging.getLogger(__name__)
_BYTES_PER_TOKEN: Final = 2
"""Fewer than any vendor's tokens have in text of a natural language, so that a prompt is estimated from above."""
_PER_MESSAGE: Final = 8
"""Tokens that a message takes beside its content, from above."""
_HINTS: Final = {
    **dict.fromkeys((301, 302, 303, 307, 308), "give the address that it redirects to as the base URL"),
    400: "the request is not as the API wants it, e.g. too long for the model",
    401: "is the API key right, and that of this address?",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "is the model's name right, and the base URL?",
    413: "the prompt is too long: show fewer turns",
    422: "the request is not as the API wants it",
    429: "the quota is used up, and waiting does not mend it",
}


class APIChatModel:
    """A model behind an API: a ``ChatModel``.

    One pool of threads serves all calls, so the limit holds for all of them together. A failure that lasts stops the
    call in which it occurs: requests that wait are given up, those that are out are waited for and kept in the cache,
    and the error is raised.

    Args:
        vendor: Who is asked; see ``connect``.
        concurrency: Most requests out at a time, at least 1.
        retry: Which failures are tried again, and when.
        budget: What may be spent; without one it is only counted, in ``budget.spent``.
        cache: Completions on disk; ``None`` asks for everything.
        prices: What tokens cost.
        jitter: Draws the jitter of waits, in ``[0, 1)``.

    Raises:
        UsageError: A budget in money for a model whose price is not known.
    """

    def __init__(
        self,
        vendor: Vendor,
        *,
        concurrency: int = 32,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        cache: CompletionCache | None = None,
        prices: Prices | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}")
        self.vendor, self.budget, self._cache = vendor, budget or Budget(), cache
        self._retry, self._prices, self._jitter = retry or RetryPolicy(), prices or Prices(), jitter
        if self.budget.cost is not None and self._prices.of(vendor.model) is None:
            raise UsageError(
                f"what {vendor.model!r} costs is not known, so a budget in money means nothing: give a price table, or "
                "a budget in tokens or requests"
            )
        self._concurrency = concurrency
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._calls: set[threading.Event] = set()

    @property
    def name(self) -> str:
        """Vendor and model."""
        return f"{self.vendor.name}:{self.vendor.model}"

    def complete(self, requests: Sequence[ChatRequest]) -> list[list[Completion]]:
        """``request.n`` completions of each, in the order of the requests.

        Raises:
            ServiceError: A request was refused, or not answered in spite of retries.
            BudgetExceededError: The budget does not allow a request.
        """
        completions: list[list[Completion | None]] = []
        asked: list[tuple[int, list[int], Future[list[Completion]]]] = []
        stopped = threading.Event()
        keys = [self._keys(request) for request in requests]
        with self._lock:
            self._calls.add(stopped)
        try:
            for index, request in enumerate(requests):
                for name in self.vendor.left_out(request):
                    self._tell(f"takes no {name}: it is left out")
                completions.append([self._cache.get(key) if self._cache else None for key in keys[index]])
                missing = [sample for sample, known in enumerate(completions[index]) if known is None]
                for start in range(0, len(missing), self.vendor.samples):
                    samples = missing[start : start + self.vendor.samples]
                    future = self._executor().submit(self._asked, request, samples, keys[index], stopped)
                    asked.append((index, samples, future))
            self._gather([future for _, _, future in asked], stopped)
        except BaseException:
            stopped.set()  # also where Ctrl-C came before all were on their way
            raise
        finally:
            with self._lock:
                self._calls.discard(stopped)
        for index, samples, future in asked:
            for sample, completion in zip(samples, future.result(), strict=True):
                completions[index][sample] = completion
        return [[each for each in group if each is not None] for group in completions]

    def give_up(self) -> None:
        """End the calls that are running, which raise ``CancelledError``; what is out is waited for and kept."""
        with self._lock:
            for stopped in self._calls:
                stopped.set()

    def _gather(self, futures: Sequence["Future[list[Completion]]"], stopped: threading.Event) -> None:
        """Wait for all, or for those that are out when one fails; then raise what went wrong first."""
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # After an error, or Ctrl-C: what is out is paid for, so it is waited for and kept.
            if not all(future.done() and not future.cancelled() for future in futures):
                stopped.set()
                for future in futures:
                    future.cancel()
                wait(futures)
        errors = [future.exception() for future in futures if not future.cancelled()]
        lasting = [error for error in errors if error is not None and not isinstance(error, CancelledError)]
        if lasting:
            raise lasting[0]

    def _keys(self, request: ChatRequest) -> list[str]:
        if self._cache is None:
            return [""] * request.n
        identity = {
            "vendor": self.vendor.name,
            "base_url": self.vendor.base_url,
            "parameters": self.vendor.parameters(request),
            "stop": request.stop,
            "draw": request.draw,
        }
        return [CompletionCache.key({**identity, "sample": sample}) for sample in range(request.n)]

    def _asked(
        self, request: ChatRequest, samples: Sequence[int], keys: Sequence[str], stopped: threading.Event
    ) -> list[Completion]:
        """As ``_samples``; a failure stops the others of the call, from within, before its thread takes the next."""
        try:
            return self._samples(request, samples, keys, stopped)
        except BaseException:
            stopped.set()
            raise

    def _samples(
        self, request: ChatRequest, samples: Sequence[int], keys: Sequence[str], stopped: threading.Event
    ) -> list[Completion]:
        """The samples with these numbers, each in the cache as soon as it is there."""
        completions: list[Completion] = []
        # A server may give fewer than it is asked for.
        while len(completions) < len(samples):
            missing = samples[len(completions) :]
            answer, usage = self._answer(request, missing[0], len(missing), stopped)
            texts = answer.texts[: len(missing)]
            for (text, reason), share in zip(texts, usage.shares(len(texts)), strict=True):
                completion = Completion(*_cut(text, reason, request.stop), usage=share)
                if self._cache is not None:
                    self._cache.put(keys[samples[len(completions)]], completion)
                completions.append(completion)
        return completions

    def _answer(self, request: ChatRequest, first: int, count: int, stopped: threading.Event) -> tuple[Answer, Usage]:
        """An answer, and what it took with the attempts before it."""
        began, usage, failures, empties = time.monotonic(), Usage(), 0, 0
        while True:
            try:
                answer, used = self._attempt(request, first, count, retries=int(failures > 0), stopped=stopped)
                usage = usage + used
                empties += _is_empty(answer)
                if not _is_empty(answer) or empties == self._retry.empty_attempts:
                    return answer, usage
                failure = TemporaryFailure("the reply is empty")
            except TemporaryFailure as error:
                failure = error
                usage = usage + Usage(requests=1, retries=int(failures > 0))
            except PermanentFailure as error:
                raise self._refused(error) from None
            failures += 1
            pause = self._retry.delay(failures, self._jitter(), failure.retry_after)
            elapsed = time.monotonic() - began
            if failures >= self._retry.attempts or elapsed + pause > self._retry.deadline:
                raise self._gave_up(failure, failures, elapsed, pause)
            _log.info("%s: %s; again in %.1f s", self.name, failure, pause)
            if stopped.wait(pause):
                raise CancelledError

    def _attempt(
        self, request: ChatRequest, first: int, count: int, *, retries: int, stopped: threading.Event
    ) -> tuple[Answer, Usage]:
        if stopped.is_set():
            raise CancelledError
        most = self._prices.priced(self.vendor.model, _most(request, count))
        self.budget.reserve(most)
        charged = Usage()
        try:
            if stopped.is_set():
                raise CancelledError
            # What a failed request took is not told; vendors do not bill for errors.
            charged = Usage(requests=1, retries=retries)
            answer = self.vendor.send(request, first, count)
            if answer.usage is None:
                self._tell("tells no tokens in its replies: they count as 0, and in the budget as the most they can be")
                charged = replace(most, retries=retries)  # the budget must end all the same
                return answer, Usage(requests=1, retries=retries, cost=None)
            charged = self._prices.priced(self.vendor.model, replace(answer.usage, requests=1, retries=retries))
            return answer, charged
        finally:
            self.budget.settle(most, charged)

    def _refused(self, failure: PermanentFailure) -> ServiceError:
        hint = _HINTS.get(failure.status, "it would be refused again")
        if failure.status in (401, 403):
            hint += f"; it is read from {' or '.join(self.vendor.key_variables)}"
        return ServiceError(
            f"{self.name} at {self.vendor.base_url} refused a request (status {failure.status}): "
            f"{_sentence(failure)} ({hint})"
        )

    def _gave_up(self, failure: TemporaryFailure, failures: int, elapsed: float, pause: float) -> ServiceError:
        limit = "" if failures >= self._retry.attempts else f", and the next may begin in {pause:.0f} s only"
        return ServiceError(
            f"{self.name} at {self.vendor.base_url} gave no usable answer in {failures} attempts and {elapsed:.0f} s"
            f"{limit}; the last time: {_sentence(failure)}. What is finished is kept: resume later, or with less "
            "concurrency"
        )

    def _tell(self, news: str) -> None:
        """Warn once of something."""
        with self._lock:
            if news in self._told:
                return
            self._told.add(news)
        _log.warning("%s %s", self.name, news)

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            # Threads do not survive a fork.
            if self._pool is None or self._pool[0] != os.getpid():
                self._pool = os.getpid(), ThreadPoolExecutor(self._concurrency, thread_name_prefix=self.vendor.name)
            return self._pool[1]


def _most(request: ChatRequest, count: int) -> Usage:
    """What a request may take at most."""
    prompt = sum(
        len(content.encode(errors="replace")) // _BYTES_PER_TOKEN + _PER_MESSAGE for _, content in request.messages
    )
    return Usage(prompt_tokens=prompt, completion_tokens=count * request.max_tokens, requests=1)


def _is_empty(answer: Answer) -> bool:
    """Whether nothing was written although the model ended by itself."""
    return all(not text.strip() and reason in ("end", "stop") for text, reason in answer.texts)


def _cut(text: str, reason: str, stop: Sequence[str]) -> tuple[str, str]:
    """The text up to the first stop text, of those that the API did not take."""
    places = [place for place in (text.find(each) for each in stop if each) if place >= 0]
    return (text[: min(places)], "stop") if places else (text, reason)


def _sentence(failure: Exception) -> str:
    return " ".join(str(failure).split())[:500]
