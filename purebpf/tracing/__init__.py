"""What tracers share: from a record of the ring to a line of output. A tool adds a BPF source and one file in tools/."""
