"""`python -m benchmarks` measures every figure; README: RESULTS.md."""
