"""Where data sets go: places, shards and their containers, the journal and the manifest."""
