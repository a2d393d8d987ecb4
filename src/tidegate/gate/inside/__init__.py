"""Programs that run inside the sandbox, on a release's content; what they print is judged outside."""
