"""The protocol of OVSDB (RFC 7047): endpoints, JSON-RPC, schemas, values, update notifications."""
