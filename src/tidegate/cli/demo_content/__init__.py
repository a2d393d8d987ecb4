"""What the demo rolls out and onto what: rules of our own, harmless samples, and devices to protect."""
