"""Independent slow answers: brute force, quadrature, high precision. Never imports ntkens."""
