"""What every room stands on: error messages, atomic files, processes, devices, trees of arrays."""
