"""The command line: a thin door on the client, the offline verifiers and the server's own start."""

import gc

# A command loads up to a thousand modules, and none is garbage: to look for it among them every 700 objects takes a fifth of its time.
gc.set_threshold(100_000, 50, 100)
