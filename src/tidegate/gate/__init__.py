"""A release is tried here, where it will run, before any device sees it."""
