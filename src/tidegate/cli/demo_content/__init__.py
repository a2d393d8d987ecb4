"""What the demo rolls out and onto what: rules of our own, harmless samples, and devices to protect."""

from tidegate.cli.demo_content.releases import demo_manifest_parts, faulty_release, good_release, validator_passes
from tidegate.cli.demo_content.world import build_world, variant

__all__ = [
    "build_world",
    "demo_manifest_parts",
    "faulty_release",
    "good_release",
    "validator_passes",
    "variant",
]
