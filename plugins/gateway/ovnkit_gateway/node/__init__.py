"""Role node: the renderers of a node's Open vSwitch and kernel."""
