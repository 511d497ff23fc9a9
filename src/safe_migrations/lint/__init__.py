"""Whether revisions are safe to run under traffic. Private."""
