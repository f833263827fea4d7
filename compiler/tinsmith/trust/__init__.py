"""The trusted partition: which channels may be permuted, where to cut, what each world gets."""
