"""Anchoring: the ledger's checkpoint committed to a public chain, and a receipt that shows it offline (R5.7).

Optional and off by default; never in a job's path.
"""
