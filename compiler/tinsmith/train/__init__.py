"""On-device training: schemes, the backward pass, the memory model, the simulator."""
