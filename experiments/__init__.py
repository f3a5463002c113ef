"""One script per paper: it states the claim, measures it, and says whether it holds.

`python -m experiments` lists the scripts; `experiments.run` is what they all share; every number
in the README comes from `results/` by way of `python -m experiments.table`.
"""
