"""Questions that are answered by searching an encyclopedia."""
