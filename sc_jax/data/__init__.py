"""Labelled images: where they come from (sources) and how batches are made."""
