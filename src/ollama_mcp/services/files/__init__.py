"""Files of this machine: which may be read, how a model gets to read them, where answers are written."""
