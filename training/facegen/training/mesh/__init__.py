"""Face meshes: autoencoders over graphs of one topology, after COMA."""
