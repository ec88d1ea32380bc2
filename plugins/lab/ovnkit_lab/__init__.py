"""`ovnkit lab`: a whole Kubernetes cluster on one machine, of network namespaces and real OVN."""
