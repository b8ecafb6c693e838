"""A small real Slurm cluster in namespaces: for the demo, the tests and the benchmarks."""
