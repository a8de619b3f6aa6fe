"""What a family makes: pictures or meshes, each read, encoded, decoded, coded and measured."""
