"""What make calls beside the stages: align, review, demo, sweep, compare, learning curve, pull, set-up."""
