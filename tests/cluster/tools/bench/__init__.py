"""`./dev bench`: what a login costs, and whether that is what is wanted."""
