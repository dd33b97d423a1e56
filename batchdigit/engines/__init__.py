"""Engines: who computes the predictions of a job."""
