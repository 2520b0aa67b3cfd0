"""Facts about quantum programs, read from hostile text without trusting it.

`reader.CircuitReader` is the way in. The caller's process runs only the linear check of `openqasm`; parsing
happens in the killable child of `child`.
"""
