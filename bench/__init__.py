"""What ovnkit's control plane takes, measured against floors of the same run: `python -m bench`."""
