"""Backends: what runs circuits, who sells it, whether it is there now, and how well it did so far."""
