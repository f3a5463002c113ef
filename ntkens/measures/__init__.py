"""Numbers about predictions: plain functions of probabilities, scores and labels.

Which one:

- accuracy, likelihood, calibration: `uncertainty`, of probabilities and labels;
- what is right among the surest: `selective`; whether scores separate: `ranking`;
- an interval for any of them: `bootstrap`; all of them for all members in one call: `report`;
- probabilities that are too sure: `temperature`;
- what a task asks of a learner: `inductive_bias` (exact, on `generalised_chi_squared`, beside the
  fit of `scaled_chi_squared`), `generalisation`, from `intrinsic_dimension` and `class_separation`.

They are of one predictor; members go through `jax.vmap`.
"""
