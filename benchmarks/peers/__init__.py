"""The others: which are here, and the only modules that import them."""
