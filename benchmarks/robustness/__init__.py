"""The product attacked: kills, faults of the system, and inputs that were made to harm or to mislead."""
