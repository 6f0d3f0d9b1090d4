"""Hugging Face models.

In: a model reference (folder, hub id, GGUF file, embedded model) and the ``models`` section of the configuration.
Out: a model on its device in its compute dtype, with adapters or fewer layers where configured, and its tokenizer.
Also decodes completions (greedy or sampled) and halves batches that don't fit into memory.
"""
