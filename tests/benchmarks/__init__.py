"""Throughput, memory and query benchmarks against rivals: ``python -m tests.benchmarks --help``."""
