"""What every room needs of the machine: files written whole, digests, progress, versions."""
