"""WORM: copies of the ledger's files and of evidence in a store that lets nobody change or remove them (R5.6).

Knows names and bytes, nothing quantum. Two stores: S3 Object Lock in compliance mode, and a folder whose
files are made immutable where the system can.
"""
