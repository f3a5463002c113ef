"""Numbers about predictions: plain functions of probabilities, scores and labels."""
