"""Files of protein sequences; `fasta` reads FASTA."""
