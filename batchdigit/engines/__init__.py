"""Engines: what computes the predictions of a job."""
