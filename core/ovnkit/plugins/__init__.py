"""Plugins: discovery, hook calls, ordering, and the pages made from the contract."""
