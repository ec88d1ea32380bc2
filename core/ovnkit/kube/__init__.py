"""ovnkit.kube."""
