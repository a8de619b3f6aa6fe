"""Who renders shards: threads of this process, other processes, or a Ray cluster."""
