"""Acts of administration: each is a change, its ledger record and its authorization, in one scope (laws 1 and 4).

One file per kind of object. A function takes the `Act` that carries who does it, and is called inside that act's scope.
"""
