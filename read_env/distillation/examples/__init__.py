"""Training examples of a chunk.

In: an allocation over capabilities, the prompt streams, the teacher's answers, and the progress through the budget.
Out: batches of examples, one per optimizer step, whose completion tokens follow the allocation.
Quotas carry what is left over to the next chunk; the curriculum chooses the difficulty.
"""
