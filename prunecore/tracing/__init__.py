"""Tracing: one level of a module's own forward as a `torch.fx` graph."""
