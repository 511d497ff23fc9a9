"""What a revision locks, scans and rewrites, against what its phase allows. Private."""
