"""Programs that stand in for parts of a cluster, for faults that those do not produce on demand."""
