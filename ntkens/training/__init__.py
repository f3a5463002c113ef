"""Losses, steps and whole ensembles as one program; takes apply functions, knows no model."""
