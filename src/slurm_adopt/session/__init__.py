"""What a session gets from its job: variables, limits, namespaces, a runtime directory."""
