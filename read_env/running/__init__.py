"""Budgeted runs, trainings, comparisons and transfer matrices, all of which resume after an interruption.

Each writes a directory of records (:mod:`read_env.running.directory`), from which :mod:`read_env.reporting` makes reports.
"""
