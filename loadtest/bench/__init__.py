"""Benchmarks: what the parts cost on this machine, beside what they are compared with."""
