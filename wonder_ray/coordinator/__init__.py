"""One run, turn by turn: plan, apply, commit, release."""
