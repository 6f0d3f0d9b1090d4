"""The student.

In: batches of examples, or prompts on which the student samples its own completions.
Out: optimizer steps with their losses, probe scores (the capability profile) and the exam's exact match.
"""
