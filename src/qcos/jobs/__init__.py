"""The spine: a job is admitted, run, sealed and settled. One file per stage, in that order.

``spec`` and ``admit`` (with ``authorize``, ``place``, ``reserve``) take a request to a queued job; ``submit`` and ``observe`` run it;
``seal`` and ``settle`` evidence and charge it. ``lifecycle`` is the table of states, ``recover`` and ``duties`` mend what a crash left.
"""
