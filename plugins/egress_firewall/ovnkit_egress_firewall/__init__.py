"""The egress_firewall plugin."""
