"""Models and a baseline for a database that exists already."""
