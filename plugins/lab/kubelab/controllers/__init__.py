"""Small versions of Kubernetes' controllers and its scheduler, for clusters without kube-controller-manager."""
