"""Changes of the data of big tables, in batches, outside the revisions. Private."""
