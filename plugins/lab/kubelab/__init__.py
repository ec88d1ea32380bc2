"""kubelab: a Kubernetes API for one machine, without etcd and without kube-apiserver.

Two programs and what they share; none of it knows anything of ovnkit or of the lab's namespaces:

- ``python -m kubelab.apiserver``: an API server that kubectl and the official clients work against;
- ``python -m kubelab.controllers``: the scheduler and the controllers that such a cluster needs;
- :mod:`kubelab.client`: requests and informers, for the controllers and for whoever embeds this package;
- :mod:`kubelab.kubeconfig`: kubeconfig files for its clients;
- :mod:`kubelab.objects` and :mod:`kubelab.clock`: reading objects, and writing times as the API does.

There is no kubelet: whoever embeds this package runs the pods and reports their status.
"""
