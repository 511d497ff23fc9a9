"""The server: connections, catalog, advisory lock, timeouts, text of SQL, programs. Private."""
