"""Estates from what people have already: each file reads one format, and says what it did not understand."""
