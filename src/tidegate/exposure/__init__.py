"""Which services fall if a vendor or a component fails, what would change that, and what a rollout must respect."""
