"""Signatures: the TUF repository, keys, the speed limit and device credentials."""
