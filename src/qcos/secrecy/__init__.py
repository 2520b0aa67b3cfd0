"""Secrecy: what tenants gave and got is kept encrypted, under a key that can be destroyed."""
