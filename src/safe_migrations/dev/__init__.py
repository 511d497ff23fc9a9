"""The PostgreSQL of a developer's machine. Private."""
