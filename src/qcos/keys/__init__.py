"""Keys: the signer protocol, keys in files, and the public trust document that verifiers pin."""
