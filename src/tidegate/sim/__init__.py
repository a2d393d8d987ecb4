"""A fleet, a clock and faults, driving the same core that runs in production."""
