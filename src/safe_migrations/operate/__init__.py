"""The operator's tasks: state, locks, backup, restore, rehearsal, deployment. Private."""
