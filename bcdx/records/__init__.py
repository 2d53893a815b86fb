"""The contract on disk between the imaging and the learning half: schema, split, shards, manifest, reader."""
