"""What is true and what happens next. Pure: no clock, no I/O, no randomness of its own, no framework."""
