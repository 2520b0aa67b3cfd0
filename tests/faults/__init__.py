"""Stop everything, anywhere, and look whether a job was lost, run twice, charged twice, or charged without being run."""
