"""The recognisers: ResNet, margin head, stacks of several, their weights and enrolment."""
