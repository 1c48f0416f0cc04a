"""Sales whose money stays with the merchant: it owes their commission, and nobody is paid before it came."""
