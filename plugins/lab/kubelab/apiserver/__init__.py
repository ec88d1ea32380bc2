"""The lab's embedded Kubernetes API server: the REST surface that kubectl and the clients expect.

It stands in where kube-apiserver and etcd are not found. One asyncio process serves everything; objects are
kept as serialized JSON, so that listing and fanning out watch events never encode anything twice. Controllers
and the kubelet are not part of it: it stores, validates, defaults and tells who watches.
"""
