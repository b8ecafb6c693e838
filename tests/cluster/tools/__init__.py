"""The commands of `./dev` that bring up clusters of their own."""
