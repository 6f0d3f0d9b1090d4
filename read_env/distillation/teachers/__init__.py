"""Teachers.

In: blocks of prompts.
Out: one answer per prompt: token ids and the top-K log-probabilities at each position.
A teacher is local, in vLLM or behind a server; a cache in memory and on disk asks it once per prompt.
"""
