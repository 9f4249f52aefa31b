"""What intruder dimensions, repair and truncation do to a task and to what a model could before."""
