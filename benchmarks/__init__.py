"""Paired timings against peers and against the limit."""
