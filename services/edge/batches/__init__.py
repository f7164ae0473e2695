"""What the edge knows of batches: what a create call asks for, what answers say, what results used."""
