"""Many services at once: found in a folder, seen in one table, updated and upgraded in one command."""
