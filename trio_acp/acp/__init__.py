"""The Agent Client Protocol, version 1, as a client speaks it."""
