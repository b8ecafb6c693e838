"""What a login of a user would come to now: the module's engine over a node that looks."""
