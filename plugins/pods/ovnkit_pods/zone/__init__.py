"""Role zone: the renderers of the zone's northbound."""
