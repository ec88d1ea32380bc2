"""From what is wanted and what is there to one transaction, and what becomes of it."""
