"""Kernel arrays and targets to predictions.

Which one:

- any time of training, or any number of steps: `gradient_flow`, by an eigendecomposition;
- NNGP and NTK posteriors, their means and covariances: `posterior`, by a Cholesky factor;
- one system whose matrix fits into memory (8 n^2 bytes): `solve.cholesky`, in half the time of
  float64; many ridges, and the held-out choice of one: `ridge`;
- one that does not fit: `solve.conjugate_gradients` on an `Operator`, over a mesh `sharded`;
- inputs without labels: `factor_model`, `gaussian_mixture`;
- limits of depth: `local`; permutations, in closed form: `permutations`.

`krylov`, `low_rank` and `panels` are what `solve` is made of.
"""
