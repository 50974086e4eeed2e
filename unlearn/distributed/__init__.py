"""Processes, engines and signals: who takes part in a run, in which engine, and how it is told to stop."""
