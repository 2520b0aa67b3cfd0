"""Drivers: one way to every vendor's backends (R8.5): contract, registry, conformance, those that ship."""
