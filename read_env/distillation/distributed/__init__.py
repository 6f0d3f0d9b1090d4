"""The student on several devices.

In: calls on rank 0, the process of the environment, such as an update with its examples.
Out: the same calls on every rank, each with its share of the work and of the weights (PyTorch's ``fully_shard``).
"""
