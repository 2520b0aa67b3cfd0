"""QCOS: the operating system for governed quantum infrastructure."""
