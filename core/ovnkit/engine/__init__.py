"""What decides, without I/O: store, tracking, pools, live sets, tasks, inbox, reconciler, failures."""
