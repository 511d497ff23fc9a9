"""The revision files in git: which are new, frozen or numbered wrongly, and moving a branch. Private."""
