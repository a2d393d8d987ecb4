"""Plans, drills, the recovery schedule, losses, notices and regulators' reports: what counts when it has happened."""
