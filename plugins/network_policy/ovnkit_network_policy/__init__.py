"""NetworkPolicy as port groups, ACLs and address sets."""
