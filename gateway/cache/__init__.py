"""Answers given before, and answers on their way: the exact cache. Knows nothing of how answers are made."""
