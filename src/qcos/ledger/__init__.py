"""The audit ledger: commitments to records in an RFC 6962 tree, published as C2SP tlog-tiles.

Knows bytes and hashes, nothing quantum.
"""
