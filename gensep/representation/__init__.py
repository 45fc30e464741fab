"""What the priors see: the maps between waves or pixels and model units, and the mixing law."""
