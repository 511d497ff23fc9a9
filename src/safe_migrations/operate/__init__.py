"""What an operator does: state, locks, backup, restore, rehearsal, deployment. Private."""
