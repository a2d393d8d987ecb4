"""The device: its loop, journal, slots, transport and guard."""
