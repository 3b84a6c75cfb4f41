"""What talks to models over a network: chat APIs under one concurrency limit, one retry policy, one budget.

``connect("openai:gpt-5-mini").complete(requests)`` is the whole of it. The vendors' SDKs (the extra ``[api]``) are
imported when the first request is sent.
"""

from agentgym_prm.inference.budget import Budget
from agentgym_prm.inference.cache import CompletionCache
from agentgym_prm.inference.core import ChatModel, ChatRequest, Completion, Usage
from agentgym_prm.inference.prices import Price, Prices
from agentgym_prm.inference.retry import RetryPolicy
from agentgym_prm.inference.runner import APIChatModel
from agentgym_prm.inference.vendors import connect

__all__ = [
    "APIChatModel",
    "Budget",
    "ChatModel",
    "ChatRequest",
    "Completion",
    "CompletionCache",
    "Price",
    "Prices",
    "RetryPolicy",
    "Usage",
    "connect",
]
