"""Benchmarks on real servers: `make bench` runs them and writes RESULTS.md."""
