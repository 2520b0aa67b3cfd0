"""The command line: a thin door on the client, the offline verifiers and the server's own start."""
