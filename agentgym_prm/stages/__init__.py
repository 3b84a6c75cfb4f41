"""The stages of a training run, from demonstrations to a process reward model, each in a folder of its own.

A stage writes ``config.json`` before anything else and ``done.json`` after everything else. One that is done is
skipped; one that was killed goes on where it stopped, and ends as if it had not been: trajectories, branching estimates
and, on a CPU, weights are those of an uninterrupted run. (Only the log-probabilities that sampled actions carry may
differ in the last digits, because other episodes were in the batch.) One that was started with other settings is
refused.

``pipeline.py`` runs them all in one directory.
"""
