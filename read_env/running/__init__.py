"""Running the house: budgeted runs, training, comparisons and transfer matrices, with resume.

What a run leaves behind is a directory of records (:mod:`read_env.running.directory`); reports are
made from those records alone (:mod:`read_env.reporting`), so they can be made again.
"""
