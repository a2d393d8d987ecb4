"""Other updaters' policies, one file each, from their published rules, on the same fleet and the same defect.

All see the same devices: a device that was told at time t is healthy, reverted or silent, and its report, if there is
one, is there at t + `observe_s`. Caps in a scenario bind Tidegate alone.
"""
