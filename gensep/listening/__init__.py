"""The page that plays mixtures, stems and references side by side."""
