"""VM containers: the kinds of hosts that there are, and a cluster's place on each."""
