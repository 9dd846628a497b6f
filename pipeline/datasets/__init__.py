"""One corpus per file: how its clips, labels, splits and signers are read from disk."""
