"""The append-only event log that all server state is folded from: one port, and the stores behind it."""
