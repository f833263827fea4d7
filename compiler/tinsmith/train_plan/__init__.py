"""What of a network should learn on the device: contribution analysis, search, Pareto front."""
