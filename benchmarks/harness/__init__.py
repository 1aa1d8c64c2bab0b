"""The benchmark runner: what to measure, where, how, and how to print it."""
