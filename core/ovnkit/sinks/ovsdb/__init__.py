"""OVSDB: sessions, the replica of a database, and the sink that keeps its rows as they are wanted."""
