"""The results log: parts, columns, what is done, proof, copies, comparisons."""
