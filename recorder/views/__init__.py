"""One file per page; widgets only. What they show and do comes from the modules one folder up."""
