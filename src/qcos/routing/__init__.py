"""Routing: which backends can run a job, and which of them should. Pure, deterministic, in integers."""
