"""The resident service: one loaded model and a crash-safe queue of jobs."""
