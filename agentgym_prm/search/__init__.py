"""Search in texts: BM25 with English analysis, ranking documents as Lucene does.

``BM25Index`` builds, keeps and searches an index; ``analysis`` says what is counted. ``LuceneIndex`` is the original
behind the same interface (extra ``[search]`` and Java).
"""

from agentgym_prm.search.bm25 import BM25Index
from agentgym_prm.search.core import Hit, SearchIndex

__all__ = ["BM25Index", "Hit", "SearchIndex"]
