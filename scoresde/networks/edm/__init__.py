"""The networks of EDM's checkpoints."""
