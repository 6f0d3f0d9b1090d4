"""Text and token ids.

In: the text of prompts, references and answers, and a tokenizer.
Out: token ids wrapped in the chat template, padded batches, and examples in the student's vocabulary.
Also checks that prompts and completions fit into the model's context.
"""
