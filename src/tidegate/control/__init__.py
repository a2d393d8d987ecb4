"""The controller: reads the log, asks core, allocates leases and publishes plans."""
