"""Networks with few weights: masks as data, budgets, scores that choose, and what they cost.

A mask is a pytree of booleans like any other array, so seeds and densities are vmapped axes; the
modules are the API: `from ntkens.sparsity import masks, pruning`.
"""
