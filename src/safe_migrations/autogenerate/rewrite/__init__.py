"""The safe form of each change that autogenerate finds. Private."""
