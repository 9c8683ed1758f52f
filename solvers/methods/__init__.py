"""Methods on a grid, one to a file that has its name; no method imports another."""
