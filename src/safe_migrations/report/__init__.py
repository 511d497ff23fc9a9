"""Lint and rehearsal of the pending revisions as Markdown, for those who review them."""
