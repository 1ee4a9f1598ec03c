"""What `init` finds out about data never seen before."""
