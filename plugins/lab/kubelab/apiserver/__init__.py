"""A Kubernetes API server in one process: the REST surface that kubectl and the official clients expect.

One asyncio process serves everything; objects are kept as serialized JSON, so that neither lists nor watch events
are encoded twice. It stores, validates, sets defaults and serves watches; controllers and kubelets are others'.
"""
