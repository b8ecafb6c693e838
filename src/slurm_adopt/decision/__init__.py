"""The decision, without I/O: engine, outcomes, options, variables."""
