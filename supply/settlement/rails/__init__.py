"""Rails that pay by instruction: what is recorded, sent and settled there (money.md §0.7, decision 0014)."""
