"""The stepds: their sockets, one conversation, asking all at once, namespaces."""
