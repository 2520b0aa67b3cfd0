"""QCOS: the operating system for governed quantum infrastructure."""

__version__ = "0.1.0"
