"""VirtualHome: household activities as scripts, executed natively on the benchmark's own graphs."""
