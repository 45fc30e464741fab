"""From mel masks or mel power back to waves: masking, phase retrieval, Wiener filters."""
