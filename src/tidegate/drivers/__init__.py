"""What a payload means: activate, health, deactivate. One file per driver."""
