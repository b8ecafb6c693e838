"""The targets, by what the bytes are of."""
