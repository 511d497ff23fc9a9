"""The structure of the models: tables, columns and foreign keys, and their diagram."""
