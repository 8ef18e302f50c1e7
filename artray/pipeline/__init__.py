"""Listing, plan, stages, the Ray Data graph, the sink and the progress of a run."""
