"""The devices' HTTP: enrol, announce, reports and the static files."""
