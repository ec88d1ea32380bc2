"""The contract between the core and its plugins. It imports nothing else of ovnkit.

A plugin author starts with three modules:

- `hooks`: the plugin is a class with `@hookimpl` methods; `ovnkit_declare` says what it needs, `ovnkit_renderers`
  what it does.
- `renderers` and `world`: a renderer is a pure function of the observed world. What it reads is tracked, and it
  runs again when that changes.
- `items`: what renderers yield. Rows of OVN and Open vSwitch, annotations, status and Events are there; host
  items, nftables and flows are in `host`, `nft` and `flows`.

`kinds` and `models` describe what can be observed, `errors` has `Reject` and `Retry`, and `text` parses what
objects say. The public names of a module are those in its `__all__`. The words of the default network (names of
rows, annotations) are in `ovnkit.network`.
"""
