"""Who we talk to: the only system calls. Thin on top of `formats`; everything that owns a descriptor closes it."""
