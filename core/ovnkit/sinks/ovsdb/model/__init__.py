"""What is there (the replica) and what is wanted (the desired rows), without a plan."""
