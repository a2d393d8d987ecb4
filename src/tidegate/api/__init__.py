"""The operators' HTTP."""
