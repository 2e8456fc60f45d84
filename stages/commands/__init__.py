"""What make calls beside the stages: demo, sweep, compare, learning curve, pull, set-up."""
