"""Kernel arrays and targets to predictions: gradient flow, posteriors, closed forms."""
