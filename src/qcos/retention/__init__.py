"""Retention: how long payloads are kept, what holds them longer, and when they may be erased."""
