"""Pure planners: state and facts in, decisions out; no clock, no I/O, no randomness."""
