"""What clusters that share a VM container must not share: who has which MACs and subnets there, and for how long."""
