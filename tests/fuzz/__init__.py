"""Coverage-guided fuzzing of every parser that meets bytes it did not write: `./dev fuzz`."""
