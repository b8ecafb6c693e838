"""Programs that the harness, scenarios and tools run inside hosts; stand-ins are in standins/."""
