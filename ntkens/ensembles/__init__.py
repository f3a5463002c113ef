"""What an ensemble of networks predicts, and how many members it needs.

Which one:

- one prediction of many members: `aggregate`; what their disagreement is worth: `diversity`;
- the same at less cost: `cascades`, by the scores of `confidence`;
- what poisoned data cannot move: `certificates`, counted by `elections`;
- how many members suffice, exactly: `complexity` for any mean and variance, `permutations` for that
  task, `first_passage` for an ensemble that grows until it is good enough.
"""
