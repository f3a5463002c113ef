"""Losses, steps and whole ensembles as one program; takes apply functions, knows no model.

Which one:

- full batches, as the theory has it: `gradient_descent`;
- minibatches, from state to state: `fit`; losses of an example: `losses`, of pairs: `contrastive`;
- many networks, each with its own key, examples or numbers: `members.map` around either;
- longer than one may wait for: `segments`, with checkpoints, which go on after a kill.
"""
