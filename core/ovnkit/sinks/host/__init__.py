"""The node: addresses, routes, nftables, OpenFlow flows, conntrack entries, uplink bridges."""
