"""What else could explain a good score: copies, divided groups, artefacts of the acquisition, bad pictures."""
