"""`make bench ARGS="--only scale"`: the real writes of the code, in simulated time, against a model of AWS's limits."""
